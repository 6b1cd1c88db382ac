"""Trees out of the store."""

from collections.abc import Sequence
from typing import Any

from josh_pipeline.core.errors import UserError
from josh_pipeline.search.codec import trees_from_records
from josh_pipeline.search.tree import Tree
from josh_pipeline.store.warehouse import Generation, Warehouse


def stored_trees(warehouse: Warehouse, iteration: str) -> tuple[Tree, ...]:
    """Return the current trees of an iteration, in the order of their goals."""
    generation = warehouse.current("rollouts", iteration)
    return trees_of(warehouse, generation) if generation is not None else ()


def trees_of(warehouse: Warehouse, generation: Generation) -> tuple[Tree, ...]:
    """Return the trees of a generation of stage ``rollouts``, in the order of their goals."""
    listed = "FROM rollouts r JOIN {} t USING (rollout_id) WHERE r.iteration = ? AND r.generation = ?"
    of = [generation.scope, generation.number]
    records = warehouse.rows(f"SELECT t.* {listed.format('trees')} ORDER BY r.position", of)
    return trees_from_records(records, warehouse.rows(f"SELECT t.* {listed.format('nodes')}", of))


def stored_tree(warehouse: Warehouse, rollout: str) -> Tree:
    """Return one tree by the first digits of its id, current or not.

    Raises:
        UserError: no tree, or more than one, begins so.
    """
    records = warehouse.rows("SELECT * FROM trees WHERE starts_with(rollout_id, ?)", [rollout])
    if len(records) != 1:
        number = "No rollout begins" if not records else f"{len(records)} rollouts begin"
        raise UserError(f"{number} with {rollout!r}: take an id from the report or the table trees.")
    return trees_from_records(records, nodes_of(warehouse, [records[0]["rollout_id"]]))[0]


def nodes_of(warehouse: Warehouse, rollouts: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of ``nodes`` of some trees."""
    return warehouse.rows("SELECT * FROM nodes WHERE list_contains(?, rollout_id)", [list(rollouts)])
