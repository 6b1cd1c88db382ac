"""What the checks of an audit share: findings, the home, what was written, and what each run had set."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from josh_pipeline.core.environment import Environment, Task
from josh_pipeline.core.errors import UserError
from josh_pipeline.search.codec import trees_from_records
from josh_pipeline.search.tree import Tree
from josh_pipeline.settings import Settings
from josh_pipeline.stages.environment import stored_environment, stored_tasks
from josh_pipeline.stages.rollouts import nodes_of
from josh_pipeline.stages.stage import recorded_settings
from josh_pipeline.store.home import Home
from josh_pipeline.store.lineage import History, Written
from josh_pipeline.store.warehouse import Generation, Warehouse

BATCH = 100
"""Trees that are read and held in memory at once: some 12,000 nodes of the widest search."""
HELD_S = 2.0
PAUSE_S = 0.15
"""A store is held open this long at a time; the pause is longer than others wait between two tries."""

Status = Literal["broken", "superseded", "removed", "unchecked"]
"""``broken`` fails the audit. ``superseded``: made from a generation that a rerun has replaced, which stays
readable. ``removed``: ``josh gc`` took its rows. ``unchecked``: this release cannot recompute it, and says
why."""


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

    def broken(self, where: str, *messages: str) -> None:
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


class Reading:
    """Keeps a store open, so that many small reads share one opening, and lets others in now and then.

    Use it as a context manager, and call ``let_others_in`` wherever nothing is half read.
    """

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._held = ExitStack()
        self._since = 0.0

    def __enter__(self) -> Self:
        self._held.enter_context(self._warehouse.connection())
        self._since = time.monotonic()
        return self

    def __exit__(self, *fault: object) -> None:
        self._held.close()

    def let_others_in(self) -> None:
        """Close the store for a moment where it was held for a while."""
        if time.monotonic() - self._since > HELD_S:
            self._held.close()
            time.sleep(PAUSE_S)
            self.__enter__()


@dataclass
class Context:
    """One audit under way.

    Attributes:
        known: every generation of the store.
        reading: keeps the store open.
        chosen: the generations that are looked at.
    """

    home: Home
    warehouse: Warehouse
    known: History
    audit: Audit
    reading: Reading
    chosen: set[Generation] = field(default_factory=set)
    _settings: dict[str, Settings | None] = field(default_factory=dict)
    _environments: dict[Generation, Environment[Any] | None] = field(default_factory=dict)

    def broken(self, where: str, *messages: str) -> None:
        """Note broken links."""
        self.audit.broken(where, *messages)

    def rows(self, table: str, generation: Generation, order: str = "ALL") -> list[dict[str, Any]]:
        """Return a generation's rows of a table of its stage."""
        return self.warehouse.written(table, generation, order)

    def row(self, table: str, generation: Generation | None) -> dict[str, Any] | None:
        """Return a generation's only row of a table; None where it is gone."""
        found = self.rows(table, generation) if generation is not None else []
        return found[0] if found else None

    def settings(self, written: Written) -> Settings | None:
        """Return the settings of the run that wrote a generation; None, with a finding, where they are not
        those of this release."""
        if written.run_id not in self._settings:
            self._settings[written.run_id] = self._read_settings(written)
        return self._settings[written.run_id]

    def _read_settings(self, written: Written) -> Settings | None:
        found = self.warehouse.rows("SELECT run_id, settings FROM runs WHERE run_id = ?", [written.run_id])
        if not found:
            self.broken(written.name, f"The record of its run {written.run_id} is missing.")
            return None
        try:
            return recorded_settings(found[0])
        except UserError as fault:
            message = f"Nothing that follows from the settings of run {written.run_id} was computed anew. {fault}"
            self.audit.add("unchecked", written.name, message)
            return None

    def ancestor(self, written: Written, stage: str) -> Generation | None:
        """Return the generation of a stage that one descends from, by the shortest way."""
        waiting = [written]
        while waiting:
            one = waiting.pop(0)
            found = one.input(stage)
            if found is not None:
                return found
            waiting += [self.known[each] for each in one.inputs if each in self.known]
        return None

    def readable(self, generation: Generation | None) -> bool:
        """Whether the rows of a generation are there to compute others from."""
        return generation in self.known and not self.known[generation].removed

    def environment(self, generation: Generation, *, sources: bool = False) -> Environment[Any] | None:
        """Return the environment as the run of a generation had set it.

        Args:
            generation: of stage ``goals``, or of ``corpus``.
            sources: read the records that tasks are derived from too.

        Returns:
            None where it cannot be restored, with a finding.
        """
        if not sources and generation in self._environments:
            return self._environments[generation]
        found = self._restored(self.known[generation], sources) if self.readable(generation) else None
        if not sources:
            self._environments[generation] = found
        return found

    def _restored(self, written: Written, sources: bool) -> Environment[Any] | None:
        corpus = written.generation if written.generation.stage == "corpus" else written.input("corpus")
        settings = self.settings(written)
        if settings is None or corpus is None or not self.readable(corpus):
            return None
        about = self.row("corpora", corpus)
        if about is None:
            return None
        try:
            found = stored_environment(
                self.warehouse, settings.environment, corpus.scope, sources=sources, generation=corpus.number
            )
            if found.snapshot().digest == about["corpus_digest"]:
                return found
            reason = f"Its environment was {about['corpus_digest']} and is {found.snapshot().digest} now, by its code"
        except UserError as fault:
            reason = f"Its environment is not to be had: {str(fault).rstrip('.')}"
        self.audit.add("unchecked", written.name, f"{reason}: nothing that follows from it was computed anew.")
        return None

    def tasks(self, generation: Generation, ids: Iterable[str]) -> dict[str, Task]:
        """Return tasks by id, as a generation of stage ``goals`` wrote them; none without its environment."""
        environment = self.environment(generation)
        if environment is None:
            return {}
        found = stored_tasks(
            self.warehouse, generation.scope, of=environment.Task, ids=list(ids), usable=False,
            generation=generation.number,
        )  # fmt: skip
        return {task.goal_id: task for task in found}

    def linked(
        self, where: str, row: Mapping[str, Any], source: Mapping[str, Any], columns: Iterable[str], name: str
    ) -> None:
        """Note the columns in which a row is not what its source says."""
        for column in columns:
            if row[column] != source[column]:
                self.broken(where, f"Its {column} is {row[column]}, and that of its {name} is {source[column]}.")


def differences(name: str, stored: Mapping[str, Any], right: Mapping[str, Any]) -> list[str]:
    """Say which columns of a stored row are not what they should be."""
    wrong = [column for column, value in right.items() if stored[column] != value]
    return [f"{name} has another {column} than follows from what it was made from." for column in wrong]


class StoredTrees:
    """The trees of a generation in its order, read in batches each time they are gone through.

    Args:
        generation: of stage ``rollouts``.
    """

    def __init__(self, context: Context, generation: Generation) -> None:
        self._warehouse = context.warehouse
        self._reading = context.reading
        self.ids = [row["rollout_id"] for row in context.rows("rollouts", generation, "position")]

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, tree: object) -> bool:
        return isinstance(tree, Tree) and tree.rollout_id in self.ids

    def __iter__(self) -> Iterator[Tree]:
        for batch in self.batches():
            yield from batch

    def batches(self) -> Iterator[tuple[Tree, ...]]:
        """Yield the trees that are there, some at a time; without any node a tree is not there."""
        for begin in range(0, len(self.ids), BATCH):
            self._reading.let_others_in()
            yield stored_trees(self._warehouse, self.ids[begin : begin + BATCH])


def stored_trees(warehouse: Warehouse, ids: Sequence[str]) -> tuple[Tree, ...]:
    """Return those of some trees that are there, with at least a node, in the same order."""
    found = warehouse.rows("SELECT * FROM trees WHERE list_contains(?, rollout_id)", [list(ids)])
    nodes = nodes_of(warehouse, ids)
    records = {row["rollout_id"]: row for row in found}
    grown = {row["rollout_id"] for row in nodes}
    return trees_from_records([records[name] for name in ids if name in records and name in grown], nodes)
