"""One search tree as a page of its own: one HTML file that needs nothing else."""

from dataclasses import dataclass

from josh_pipeline.report.pages import Bubble, bubbles, page
from josh_pipeline.report.tree_data import DrawnTree, NodeRows
from josh_pipeline.report.tree_svg import boxes
from josh_pipeline.report.words import end_text, goal_kind, milestone_texts
from josh_pipeline.search.tree import Node


@dataclass(frozen=True)
class _Item:
    node: Node
    messages: tuple[Bubble, ...]
    rows: NodeRows
    end: str


def earned_where(drawn: DrawnTree) -> tuple[str, ...]:
    """For each milestone of the goal, the round in which the search collected it."""
    rounds = {
        milestone: node.round
        for node in reversed(drawn.tree.nodes)
        if node.golden
        for milestone in node.earned
    }
    return tuple(
        f"earned in round {rounds[milestone]}" if milestone in rounds else "not earned"
        for milestone in range(len(drawn.goal.calls))
    )


def tree_page(drawn: DrawnTree) -> str:
    """Render the viewer of one tree as a whole HTML document."""
    items = [
        _Item(node, bubbles(node.messages), drawn.rows_of(node.node_id), end_text(node))
        for node in drawn.tree.nodes
    ]
    return page(
        "tree.html.jinja",
        {
            "drawn": drawn,
            "kind": goal_kind(drawn.goal),
            "milestones": milestone_texts(drawn.goal),
            "earned_where": earned_where(drawn),
            "items": items,
            "svg": boxes(drawn),
            "taken": drawn.taken,
        },
    )
