"""What the checks of an audit share: the home, what was written, and the settings of each run."""

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Self

from josh_pipeline.audit.findings import Audit
from josh_pipeline.core.errors import UserError
from josh_pipeline.environments.toolwoz.goal import Goal, Semantics
from josh_pipeline.environments.toolwoz.records import Corpus
from josh_pipeline.search.codec import trees_from_records
from josh_pipeline.search.tree import Tree
from josh_pipeline.settings import Settings
from josh_pipeline.stages.corpus import stored_corpus
from josh_pipeline.stages.goals import goal_from_row
from josh_pipeline.stages.recorded import recorded_settings
from josh_pipeline.store.home import Home
from josh_pipeline.store.lineage import History, Written
from josh_pipeline.store.schema import MEMBERS, scope_column
from josh_pipeline.store.seals import replaced_members
from josh_pipeline.store.warehouse import Generation, Warehouse

BATCH = 100
"""Trees that are read and held in memory at once: some 12,000 nodes of the widest search."""


HELD_S = 2.0
PAUSE_S = 0.15
"""A store is held open this long at a time; the pause is longer than others wait between two tries."""


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
    """

    home: Home
    warehouse: Warehouse
    known: History
    audit: Audit
    reading: Reading
    _settings: dict[str, Settings | None] = field(default_factory=dict)
    _corpora: dict[Generation, Corpus] = field(default_factory=dict)
    _replaced: dict[Generation, set[str]] = field(default_factory=dict)

    def rows(self, table: str, generation: Generation, order: str = "ALL") -> list[dict[str, Any]]:
        """Return a generation's rows of a table of its stage."""
        return self.warehouse.rows(
            f"SELECT * FROM {table} WHERE {scope_column(generation.stage)} = ? AND generation = ? "
            f"ORDER BY {order}",
            [generation.scope, generation.number],
        )

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
            self.audit.add("broken", written.name, f"The record of its run {written.run_id} is missing.")
            return None
        try:
            return recorded_settings(found[0])
        except UserError:
            message = f"The settings of run {written.run_id} are of another release, so nothing that follows "
            self.audit.add("unchecked", written.name, message + "from them was computed anew.")
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

    def replaced(self, generation: Generation) -> set[str]:
        """Return the trees or conversations that had failed when a generation listed them, and were played
        again since: what was made of them then cannot be computed from what is there now."""
        if generation.stage not in MEMBERS:
            return set()
        if generation not in self._replaced:
            with self.warehouse.connection() as connection:
                self._replaced[generation] = replaced_members(
                    connection, generation.stage, generation.scope, generation.number
                )
        return self._replaced[generation]

    def note_replaced(self, written: Written, source: Generation, number: int) -> None:
        """Note that a part of a generation is held to its seals alone."""
        if number:
            kind = "tree" if source.stage == "rollouts" else "conversation"
            message = f"Failed when {self.known[source].name} was written, and played again since: {number} "
            message += f"{kind}{'s' * (number > 1)}. What came of the failed ones is held to its seals alone."
            self.audit.add("superseded", written.name, message)

    def corpus(self, generation: Generation, dialogues: bool = False) -> Corpus:
        """Return a corpus as a generation wrote it; the databases are read once."""
        if dialogues:
            return stored_corpus(
                self.warehouse, generation.scope, dialogues=True, generation=generation.number
            )
        if generation not in self._corpora:
            self._corpora[generation] = stored_corpus(
                self.warehouse, generation.scope, dialogues=False, generation=generation.number
            )
        return self._corpora[generation]

    def goals(self, generation: Generation, ids: Sequence[str]) -> dict[str, tuple[Goal, Semantics]]:
        """Return goals by id, as a generation wrote them."""
        found = self.warehouse.rows(
            "SELECT * FROM goals WHERE scope = ? AND generation = ? AND list_contains(?, goal_id)",
            [generation.scope, generation.number, list(ids)],
        )
        return {row["goal_id"]: (goal_from_row(row), row["semantics"]) for row in found}


class StoredTrees:
    """The trees of a generation in its order, read in batches each time they are gone through.

    Args:
        generation: of stage ``rollouts``.
        without: trees that are left out.
    """

    def __init__(
        self, context: Context, generation: Generation, without: Collection[str] = frozenset()
    ) -> None:
        self._warehouse = context.warehouse
        self._reading = context.reading
        found = context.warehouse.rows(
            "SELECT rollout_id FROM rollouts WHERE iteration = ? AND generation = ? ORDER BY position",
            [generation.scope, generation.number],
        )
        self.ids = [row["rollout_id"] for row in found if row["rollout_id"] not in without]

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, tree: object) -> bool:
        return isinstance(tree, Tree) and tree.rollout_id in self.ids

    def __iter__(self) -> Iterator[Tree]:
        for begin in range(0, len(self.ids), BATCH):
            self._reading.let_others_in()
            ids = self.ids[begin : begin + BATCH]
            records = {
                row["rollout_id"]: row
                for row in self._warehouse.rows(
                    "SELECT * FROM trees WHERE list_contains(?, rollout_id)", [ids]
                )
            }
            nodes = self._warehouse.rows("SELECT * FROM nodes WHERE list_contains(?, rollout_id)", [ids])
            yield from trees_from_records([records[name] for name in ids if name in records], nodes)
