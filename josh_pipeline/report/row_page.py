"""One training row as a page of its own that a reviewer can be handed: one HTML file, no network."""

from josh_pipeline.audit.chain import RowAudit
from josh_pipeline.audit.text import link_status, verdict
from josh_pipeline.harvest.rows import Row, Side
from josh_pipeline.report.pages import Bubble, bubbles, page
from josh_pipeline.report.tree import DrawnTree, load_drawn_tree
from josh_pipeline.report.tree_svg import boxes
from josh_pipeline.search.tree import Node
from josh_pipeline.store.warehouse import Warehouse


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
    row = found.row
    return page(
        "row.html.jinja",
        {
            "record": found.record,
            "sound": found.audit.sound,
            "verdict": verdict(found.audit),
            "findings": found.audit.findings,
            "label": label(row),
            "system": row.prompt[0].content,
            "prompt": row.prompt[1:],
            "sides": [(title(row, side), side.label, learned(side)) for side in row.sides],
            "siblings": siblings(found),
            "links": [(link, link_status(link)) for link in found.links],
            "drawn": drawn,
            "svg": boxes(drawn) if drawn else "",
            "node_ids": [node.node_id for _, node in found.nodes],
        },
    )


def label(row: Row) -> str:
    """What training does with a row, in a few words."""
    learning = {
        "conversations": "the loss is on the marked messages",
        "messages": row.label,
        "pairs": "the desirable message is preferred to the undesirable one",
    }
    return f"{row.method.upper()}: {learning[row.kind]}"


def title(row: Row, side: Side) -> str:
    """What a side is called."""
    return row.label if row.kind == "conversations" else side.label


def learned(side: Side) -> tuple[Bubble, ...]:
    """Return a side's messages; in a conversation those that carry loss are marked."""
    trained = {place for place, one in enumerate(side.said) if one.train}
    return bubbles(side.messages, trained if len(side.said) > 1 else ())


def siblings(found: RowAudit) -> list[Node]:
    """Return the turns beside the row's own, which are among them, in tree order."""
    parents = {node.parent_id for _, node in found.nodes if node.parent_id is not None}
    return [node for tree in found.trees for node in tree.nodes if node.parent_id in parents]
