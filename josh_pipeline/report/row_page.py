"""One training row as a page of its own that a reviewer can be handed: one HTML file, no network."""

from dataclasses import dataclass

from josh_pipeline.audit.chain import RowAudit
from josh_pipeline.audit.text import link_status, verdict
from josh_pipeline.core.messages import Conversation
from josh_pipeline.harvest.rows import DpoRow, KtoRow, Row, SftRow
from josh_pipeline.report.load_tree import load_drawn_tree
from josh_pipeline.report.pages import Bubble, bubbles, page
from josh_pipeline.report.tree_data import DrawnTree
from josh_pipeline.report.tree_svg import boxes
from josh_pipeline.report.tree_view import earned_where
from josh_pipeline.report.words import end_text, goal_kind, milestone_texts
from josh_pipeline.search.tree import Node, Tree
from josh_pipeline.store.warehouse import Warehouse


@dataclass(frozen=True)
class Side:
    """A message that is learned, or learned away from.

    Attributes:
        name: ``desirable``, ``chosen``, ...
        tone: ``good`` or ``bad``.
    """

    name: str
    tone: str
    messages: tuple[Bubble, ...]


@dataclass(frozen=True)
class Sibling:
    """Another turn that the policy drew at the same place in the tree.

    Attributes:
        row: it gave this row too (of a pair: the other side).
        end: why the branch has no child; empty where it went on.
    """

    node: Node
    row: bool
    messages: tuple[Bubble, ...]
    end: str


def load_row_page(warehouse: Warehouse, found: RowAudit) -> str:
    """Render the page of an audited row."""
    drawn = None
    if found.goal is not None and found.trees:
        drawn = load_drawn_tree(warehouse, found.trees[0].rollout_id)
    return row_page(found, drawn)


def row_page(found: RowAudit, drawn: DrawnTree | None) -> str:
    """Render the page of a row.

    Args:
        drawn: the tree that the row names; None where it, or its goal, is missing.
    """
    nodes = [node for _, node in found.nodes]
    return page(
        "row.html.jinja",
        {
            "record": found.record,
            "sound": found.audit.sound,
            "verdict": verdict(found.audit),
            "findings": found.audit.findings,
            "label": label(found.row),
            "system": prompt_of(found.row)[0].content,
            "prompt": bubbles(prompt_of(found.row)[1:]),
            "sides": sides(found.row),
            "siblings": siblings(found.trees, nodes),
            "links": [(link, link_status(link)) for link in found.links],
            "drawn": drawn,
            "svg": boxes(drawn) if drawn else "",
            "kind": goal_kind(drawn.goal) if drawn else "",
            "milestones": milestone_texts(drawn.goal) if drawn else (),
            "earned_where": earned_where(drawn) if drawn else (),
            "node_ids": [node.node_id for node in nodes],
        },
    )


def label(row: Row) -> str:
    """What training does with a row, in a few words."""
    if isinstance(row, SftRow):
        return "SFT: the loss is on the marked messages"
    if isinstance(row, KtoRow):
        return f"KTO: {'desirable' if row.desirable else 'undesirable'}"
    return "DPO: the chosen message is preferred to the rejected one"


def prompt_of(row: Row) -> Conversation:
    """What stands before the message that is learned; of an SFT row the system message alone."""
    return row.messages[:1] if isinstance(row, SftRow) else row.prompt


def sides(row: Row) -> tuple[Side, ...]:
    """What is learned."""
    if isinstance(row, DpoRow):
        return (
            Side("chosen", "good", bubbles((row.chosen.message,))),
            Side("rejected", "bad", bubbles((row.rejected.message,))),
        )
    if isinstance(row, KtoRow):
        name, tone = ("desirable", "good") if row.desirable else ("undesirable", "bad")
        return (Side(name, tone, bubbles((row.completion.message,))),)
    shown = bubbles(row.messages[1:])
    marked = tuple(
        Bubble(f"{bubble.kind} earned" if train else bubble.kind, bubble.who, bubble.text, bubble.error)
        for bubble, train in zip(shown, row.train[1:], strict=True)
    )
    return (Side("conversation", "good", marked),)


def siblings(trees: tuple[Tree, ...], nodes: list[Node]) -> list[Sibling]:
    """Return the turns beside the row's own, in tree order."""
    own = {node.node_id for node in nodes}
    parents = {node.parent_id for node in nodes if node.parent_id is not None}
    return [
        Sibling(node, node.node_id in own, bubbles(node.messages), end_text(node))
        for tree in trees
        for node in tree.nodes
        if node.parent_id in parents
    ]
