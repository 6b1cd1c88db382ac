"""What an audit says: findings about generations, rows and files, and what was checked."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Status = Literal["broken", "superseded", "unsealed", "removed", "unchecked"]
"""``broken`` fails the audit. ``superseded``: made from a generation that a rerun has replaced, which stays
readable. ``unsealed``: written by a release that kept no seals. ``removed``: ``josh gc`` took its rows.
``unchecked``: this release cannot recompute it, and says why."""


@dataclass(frozen=True)
class Finding:
    """Something about one link.

    Attributes:
        status: what it means.
        where: the generation, table, row or file that it is about, e.g. ``goals/8fae.../1``.
        message: one sentence.
    """

    status: Status
    where: str
    message: str


@dataclass
class Audit:
    """Findings, and how much was looked at.

    Attributes:
        findings: in the order in which they were made.
        checked: what was checked to how often.
    """

    findings: list[Finding] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)

    def add(self, status: Status, where: str, message: str) -> None:
        """Note a finding, once."""
        finding = Finding(status, where, message)
        if finding not in self.findings:
            self.findings.append(finding)

    def broken(self, where: str, messages: Iterable[str]) -> None:
        """Note broken links."""
        for message in messages:
            self.add("broken", where, message)

    @property
    def sound(self) -> bool:
        """Nothing is broken."""
        return not self.of("broken")

    def of(self, status: Status) -> list[Finding]:
        """Findings of one status."""
        return [finding for finding in self.findings if finding.status == status]
