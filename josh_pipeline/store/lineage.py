"""What was made from what: generations and their ancestors."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from josh_pipeline.store.warehouse import Generation, Warehouse


@dataclass(frozen=True)
class Written:
    """A row of ``generations``, explained in schema.sql.

    Attributes:
        inputs: the generations that it was made from.
    """

    generation: Generation
    run_id: str
    current: bool
    inputs: tuple[Generation, ...]
    created_at: datetime
    rows: Mapping[str, int]
    content: str
    digest: str
    removed: bool

    @property
    def name(self) -> str:
        """``goals/8fae.../1``: what people call it."""
        return f"{self.generation.key}/{self.generation.number}"

    def input(self, stage: str) -> Generation | None:
        """The generation of a stage that it was made from; of several, the one of its own scope."""
        found = [one for one in self.inputs if one.stage == stage]
        own = [one for one in found if one.scope == self.generation.scope]
        return next(iter(own + found), None)

    def replayed(self) -> list[Generation]:
        """The harvests of earlier iterations that an adapter was trained on too, newest first."""
        found = (one for one in self.inputs if one.stage == "preferences" and one.scope != self.generation.scope)
        return sorted(found, key=lambda one: one.scope, reverse=True)


History = dict[Generation, Written]


def history(warehouse: Warehouse) -> History:
    """Return every generation of a store, in the order in which they were written."""
    found: History = {}
    for row in warehouse.rows("SELECT * FROM generations ORDER BY created_at, stage, scope, generation"):
        generation = Generation(row["stage"], row["scope"], row["generation"])
        inputs = tuple(
            Generation(stage, scope, number)
            for (stage, _, scope), number in (
                (key.partition("/"), number) for key, number in json.loads(row["inputs"]).items()
            )
        )
        found[generation] = Written(
            generation, row["run_id"], row["current"], inputs, row["created_at"], json.loads(row["rows"]),
            row["content"], row["digest"], row["removed_at"] is not None,
        )  # fmt: skip
    return found


def ancestors(known: History, roots: Iterable[Generation]) -> set[Generation]:
    """Return the generations that others were made from, those others included."""
    found: set[Generation] = set()
    waiting = list(roots)
    while waiting:
        generation = waiting.pop()
        if generation not in found:
            found.add(generation)
            waiting += known[generation].inputs if generation in known else ()
    return found


def newest_of(known: History, key: str) -> Generation | None:
    """Return the last generation that was written of a stage and scope."""
    return max((g for g in known if g.key == key), key=lambda g: g.number, default=None)
