"""Search trees for drawing, out of the store."""

from josh_pipeline.core.errors import UserError
from josh_pipeline.report.lines import policy_name
from josh_pipeline.report.tree_data import DrawnTree, NodeRows
from josh_pipeline.stages.goals import goal_from_row
from josh_pipeline.stages.rollouts import stored_tree
from josh_pipeline.store.warehouse import Warehouse

SFT, DESIRABLE, UNDESIRABLE = "sft", "desirable", "undesirable"


def load_drawn_tree(warehouse: Warehouse, rollout: str) -> DrawnTree:
    """Read a tree, its goal, and the rows that were taken from it.

    Args:
        rollout: the first digits of its id.

    Raises:
        UserError: no tree, or more than one, begins so; or its goal is gone.
    """
    tree = stored_tree(warehouse, rollout)
    goals = warehouse.rows("SELECT * FROM goals WHERE goal_id = ? LIMIT 1", [tree.goal_id])
    if not goals:
        raise UserError(
            f"Tree {tree.rollout_id} cannot be drawn, because its goal {tree.goal_id} is no longer in the "
            "store: materialize toolwoz_goals with the settings that it was searched with."
        )
    used = warehouse.rows(
        "SELECT max(iteration) AS iteration FROM current_rollouts WHERE rollout_id = ?", [tree.rollout_id]
    )[0]["iteration"]
    return DrawnTree(
        tree=tree,
        goal=goal_from_row(goals[0]),
        policy=policy_name(warehouse, tree.policy_digest),
        iteration=None if used is None else int(used),
        rows=node_rows(warehouse, tree.rollout_id),
    )


def node_rows(warehouse: Warehouse, rollout: str) -> dict[str, NodeRows]:
    """Return the training rows that came from each node of a tree."""
    found: dict[str, dict[str, list[str]]] = {}
    for row in warehouse.rows(
        "SELECT DISTINCT n.node_id, n.row_id, n.part, r.method, r.desirable FROM current_row_nodes n "
        "JOIN current_preference_rows r USING (iteration, row_id) WHERE n.rollout_id = ? ORDER BY ALL",
        [rollout],
    ):
        kind = label(row["method"], row["part"], row["desirable"])
        found.setdefault(row["node_id"], {}).setdefault(kind, []).append(row["row_id"])
    return {
        node: NodeRows(
            sft=len(set(kinds.get(SFT, ()))),
            desirable=len(kinds.get(DESIRABLE, ())),
            undesirable=len(kinds.get(UNDESIRABLE, ())),
            row_ids=tuple(sorted({row for rows in kinds.values() for row in rows})),
        )
        for node, kinds in found.items()
    }


def label(method: str, part: str, desirable: bool) -> str:
    """What a node gave to a row: a place in an SFT conversation, or one side of a preference."""
    if method == "sft":
        return SFT
    return DESIRABLE if desirable and part != "rejected" else UNDESIRABLE


def telling_tree(warehouse: Warehouse, iteration: str) -> str | None:
    """Choose the tree to show: of those with the most reward the one with most calls earned, most turns."""
    found = warehouse.rows(
        "SELECT t.rollout_id FROM current_trees t JOIN current_nodes n USING (iteration, rollout_id) "
        "WHERE t.iteration = ? GROUP BY t.rollout_id, t.reward, t.earned "
        "ORDER BY t.reward DESC, json_array_length(t.earned) DESC, count(*) DESC, t.rollout_id LIMIT 1",
        [iteration],
    )
    return str(found[0]["rollout_id"]) if found else None
