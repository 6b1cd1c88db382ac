"""A search tree with what a drawing of it shows, and where it comes from in the store."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from josh_pipeline.core.environment import Task
from josh_pipeline.core.errors import UserError
from josh_pipeline.report.lines import policy_name
from josh_pipeline.report.words import milestone_texts
from josh_pipeline.search.tree import Node, Tree
from josh_pipeline.stages.environment import task_from_row
from josh_pipeline.stages.rollouts import stored_tree
from josh_pipeline.stages.unused import unused
from josh_pipeline.store.warehouse import Generation, Warehouse

NODE_LABEL = (
    "CASE WHEN r.label = 'golden conversation' THEN 'golden' "
    "WHEN r.label = 'undesirable' OR n.part = 'rejected' THEN 'undesirable' ELSE 'desirable' END"
)
"""What a node (``row_nodes`` n) gave to a row (``preference_rows`` r)."""


@dataclass(frozen=True)
class NodeRows:
    """Training rows that were taken from one node.

    Attributes:
        golden: it lies on a golden conversation that is learned from.
        desirable, undesirable: single assistant messages, alone or in pairs.
        row_ids: ids of all of them.
    """

    golden: int = 0
    desirable: int = 0
    undesirable: int = 0
    row_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class DrawnTree:
    """A tree, what it was grown for, and what was taken from it.

    Attributes:
        tree: as searched.
        goal: what the user wanted.
        policy: the policy's name for people, e.g. ``cold start``.
        iteration: the iteration it was grown in, None outside one.
        rows: node id to its rows; nodes without rows may be left out.
        unused: what was made again of its iteration and is not what it tells of, a sentence each.
    """

    tree: Tree
    goal: Task
    policy: str
    iteration: int | None
    rows: Mapping[str, NodeRows] = field(default_factory=dict)
    unused: tuple[str, ...] = ()

    def rows_of(self, node: Node) -> NodeRows:
        """The rows of a node; none where it gave none."""
        return self.rows.get(node.node_id, NodeRows())

    @property
    def taken(self) -> NodeRows:
        """Counts over the whole tree; a golden conversation spans nodes and is counted once."""
        every = self.rows.values()
        return NodeRows(
            golden=max((rows.golden for rows in every), default=0),
            desirable=sum(rows.desirable for rows in every),
            undesirable=sum(rows.undesirable for rows in every),
            row_ids=tuple(sorted({row for rows in every for row in rows.row_ids})),
        )

    @property
    def milestones(self) -> tuple[tuple[str, str], ...]:
        """Every milestone of the goal in words, and in which round the search collected it.

        Milestones that are no calls have numbers only, and those that nobody earned are not known.
        """
        rounds = {
            milestone: node.round for node in reversed(self.tree.nodes) if node.golden for milestone in node.earned
        }
        known = max((m + 1 for node in self.tree.nodes for m in node.earned), default=0)
        texts = milestone_texts(self.goal) or [f"milestone {number + 1}" for number in range(known)]
        return tuple(
            (text, f"earned in round {rounds[place]}" if place in rounds else "not earned")
            for place, text in enumerate(texts)
        )


def load_drawn_tree(warehouse: Warehouse, rollout: str, harvested: Generation | None = None) -> DrawnTree:
    """Read a tree, its goal, and the rows that were taken from it.

    Args:
        rollout: the first digits of its id.
        harvested: which harvest's rows; None for the one that its iteration's adapter was trained on.

    Raises:
        UserError: no tree, or more than one, begins so; or its goal is gone.
    """
    tree = stored_tree(warehouse, rollout)
    goals = warehouse.rows("SELECT * FROM goals WHERE goal_id = ? LIMIT 1", [tree.goal_id])
    if not goals:
        raise UserError(
            f"Tree {tree.rollout_id} cannot be drawn, because its goal {tree.goal_id} is no longer in the "
            f"store: materialize {warehouse.layout.stages['goals'].asset} with the settings that it was "
            "searched with."
        )
    used = warehouse.rows("SELECT max(iteration) AS iteration FROM rollouts WHERE rollout_id = ?", [tree.rollout_id])
    iteration = used[0]["iteration"]
    harvested = harvested or harvest_of_tree(warehouse, tree.rollout_id)
    return DrawnTree(
        tree,
        task_from_row(goals[0]),
        policy_name(warehouse, tree.policy_digest),
        int(iteration) if iteration else None,
        node_rows(warehouse, tree.rollout_id, harvested) if harvested else {},
        unused(warehouse, iteration) if iteration else (),
    )


def harvest_of_tree(warehouse: Warehouse, rollout: str) -> Generation | None:
    """Return the harvest of a tree that an adapter was trained on, the one that stands first; else the newest."""
    found = warehouse.rows(
        "SELECT 'preferences' AS stage, h.iteration AS scope, h.generation AS number "
        "FROM rollouts r JOIN generation_inputs i ON i.stage = 'preferences' AND i.scope = r.iteration "
        "AND i.input_stage = 'rollouts' AND i.input_generation = r.generation "
        "JOIN harvests h ON h.iteration = i.scope AND h.generation = i.generation "
        "WHERE r.rollout_id = ? ORDER BY h.standing DESC, h.trained DESC, h.created_at DESC LIMIT 1",
        [rollout],
    )
    return Generation(**found[0]) if found else None


def node_rows(warehouse: Warehouse, rollout: str, harvested: Generation) -> dict[str, NodeRows]:
    """Return the training rows that came from each node of a tree in a harvest."""
    found = warehouse.rows(
        "SELECT node_id, count(DISTINCT row_id) FILTER (gave = 'golden') AS golden, "
        "count(*) FILTER (gave = 'desirable') AS desirable, "
        "count(*) FILTER (gave = 'undesirable') AS undesirable, "
        "list(DISTINCT row_id ORDER BY row_id) AS row_ids "
        f"FROM (SELECT DISTINCT n.node_id, n.row_id, n.part, {NODE_LABEL} AS gave FROM row_nodes n "
        "JOIN preference_rows r USING (iteration, generation, row_id) "
        "WHERE n.rollout_id = ? AND iteration = ? AND generation = ?) GROUP BY node_id",
        [rollout, harvested.scope, harvested.number],
    )
    return {row.pop("node_id"): NodeRows(**row | {"row_ids": tuple(row["row_ids"])}) for row in found}


def telling_tree(warehouse: Warehouse, iteration: str) -> str | None:
    """Choose the tree to show: the most reward first, then the most milestones, then the most turns."""
    found = warehouse.rows(
        "SELECT t.rollout_id FROM standing_trees t JOIN standing_nodes n USING (iteration, rollout_id) "
        "WHERE t.iteration = ? GROUP BY t.rollout_id, t.reward, t.earned "
        "ORDER BY t.reward DESC, json_array_length(t.earned) DESC, count(*) DESC, t.rollout_id LIMIT 1",
        [iteration],
    )
    return str(found[0]["rollout_id"]) if found else None
