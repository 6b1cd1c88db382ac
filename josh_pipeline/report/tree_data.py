"""All that a drawing of a search tree shows."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from josh_pipeline.environments.toolwoz.goal import Goal
from josh_pipeline.search.tree import Tree


@dataclass(frozen=True)
class NodeRows:
    """Training rows that were taken from one node.

    Attributes:
        sft: it lies on a golden conversation that SFT learns from.
        desirable, undesirable: single assistant messages, for KTO and DPO.
        row_ids: ids of all of them.
    """

    sft: int = 0
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
    """

    tree: Tree
    goal: Goal
    policy: str
    iteration: int | None
    rows: Mapping[str, NodeRows] = field(default_factory=dict)

    def rows_of(self, node_id: str) -> NodeRows:
        """The rows of a node; none where it gave none."""
        return self.rows.get(node_id, NodeRows())

    @property
    def taken(self) -> NodeRows:
        """Counts over the whole tree; an SFT conversation spans nodes and is counted once a row id."""
        every = tuple(sorted({row for rows in self.rows.values() for row in rows.row_ids}))
        return NodeRows(
            sft=max((rows.sft for rows in self.rows.values()), default=0),
            desirable=sum(rows.desirable for rows in self.rows.values()),
            undesirable=sum(rows.undesirable for rows in self.rows.values()),
            row_ids=every,
        )
