"""An audit in the terminal, and as JSON."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from josh_pipeline.audit.chain import Link, RowAudit, SourceUse
from josh_pipeline.audit.context import Audit, Finding
from josh_pipeline.audit.whole import store_digest
from josh_pipeline.core.words import number_of
from josh_pipeline.store.lineage import History, Written
from josh_pipeline.store.warehouse import Generation

SHOWN = 200
"""Findings that are printed; --json prints all."""


def home_lines(audit: Audit, known: History, chosen: set[Generation]) -> Iterable[str]:
    """Say what was checked, how each generation stands, and what is broken."""
    broken = {finding.where for finding in audit.of("broken")}
    for generation, written in known.items():
        if generation in chosen:
            yield f"{standing(audit, written, broken):>10}  {written.name}  {written.digest}"
    yield ""
    yield "Checked: " + ", ".join(f"{number:,} {what}" for what, number in audit.checked.items()) + "."
    yield from findings_lines(audit.findings)
    yield f"Digest of the store: {store_digest(known)}"
    yield verdict(audit)


def standing(audit: Audit, written: Written, broken: set[str]) -> str:
    """One word for a generation."""
    if written.name in broken:
        return "broken"
    if written.removed:
        return "removed"
    statuses = {finding.status for finding in audit.findings if finding.where == written.name}
    return "superseded" if "superseded" in statuses else "sound"


def findings_lines(findings: list[Finding]) -> Iterable[str]:
    """List findings, what is broken last, where it is read."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for finding in sorted(findings, key=lambda finding: finding.status == "broken"):
        grouped.setdefault((finding.status, finding.message), []).append(finding.where)
    for (status, message), places in list(grouped.items())[-SHOWN:]:
        where = places[0] if len(places) == 1 else f"{len(places)} of the above"
        yield f"{status}: {where}: {message}"
    if len(grouped) > SHOWN:
        yield f"... and {len(grouped) - SHOWN} more: --json prints all."


def verdict(audit: Audit) -> str:
    """The outcome in one sentence."""
    broken = len(audit.of("broken"))
    return f"Broken: {not_holding(broken)}." if broken else "Sound: every link holds."


def not_holding(broken: int) -> str:
    """Say how many links do not hold."""
    return f"{number_of(broken, 'link')} {'does' if broken == 1 else 'do'} not hold"


def row_lines(found: RowAudit) -> Iterable[str]:
    """Print the chain of one row."""
    for link in found.links:
        yield f"{link_status(link):>10}  {link.kind} {link.name}"
        for name, value in link.facts.items():
            yield f"{'':12}{name.replace('_', ' ')}: {value}"
    yield ""
    yield from findings_lines(found.audit.findings)
    yield verdict(found.audit)


def link_status(link: Link) -> str:
    """One word for a link."""
    order = ("broken", "removed", "superseded", "unchecked")
    statuses = {finding.status for finding in link.findings}
    return next((status for status in order if status in statuses), "sound")


def source_lines(use: SourceUse) -> Iterable[str]:
    """Print what ever saw a source."""
    yield f"Source {use.source_id}"
    for goal in use.goals:
        yield f"  goal {goal['goal_id']}: {goal['kind']}, role {goal['role']}"
    yield f"Adapters that were trained on it: {len({one['adapter_digest'] for one in use.adapters})}"
    for one in use.adapters:
        rows = f", {number_of(one['rows'], 'row')}" if one["rows"] else ""
        yield (
            f"  {one['adapter_digest']}  iteration {one['iteration']} generation {one['generation']} "
            f"({one['status']}): through {one['through']}{rows}"
        )
    yield f"Bases that it was demonstrated to: {len({one['base_digest'] for one in use.bases})}"
    for one in use.bases:
        yield f"  {one['base_digest']}  cold_start {one['scope']} generation {one['generation']} ({one['status']})"
    yield f"Searches of it: {len(use.searches)}"
    for one in use.searches:
        where = f"iteration {one['iteration']}" if one["iteration"] else "no iteration: its step did not end"
        failed = f", failed ({one['failure']})" if one["failure"] else ""
        yield (
            f"  {one['rollout_id']}  {where}: policy {one['policy_digest']}, reward {one['reward']:.3f}{failed}, "
            f"{number_of(one['rows'], 'row')}"
        )
    yield f"Evaluations that played it: {len(use.evaluations)}"
    for one in use.evaluations:
        yield (
            f"  {one['stage']} {one['scope']} generation {one['generation']}, {one['role']}: "
            f"policy {one['policy_digest']}, reward {one['reward']:.3f}"
        )


def home_record(audit: Audit, known: History, chosen: set[Generation]) -> dict[str, Any]:
    """Return an audit for machines."""
    broken = {finding.where for finding in audit.of("broken")}
    return {
        "sound": audit.sound,
        "digest": store_digest(known),
        "checked": dict(audit.checked),
        "generations": [
            {
                "name": written.name,
                "status": standing(audit, written, broken),
                "current": written.current,
                "digest": written.digest,
                "run_id": written.run_id,
                "inputs": [f"{one.key}/{one.number}" for one in written.inputs],
            }
            for generation, written in known.items()
            if generation in chosen
        ],
        "findings": [asdict(finding) for finding in audit.findings],
    }


def row_record(found: RowAudit) -> dict[str, Any]:
    """Return a row's chain for machines."""
    return {
        "sound": found.audit.sound,
        "row_id": found.record["row_id"],
        "links": [asdict(link) | {"status": link_status(link)} for link in found.links],
    }
