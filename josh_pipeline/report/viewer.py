"""One search tree, or one training row, to look at: a page that needs nothing else; a tree in the terminal too."""

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree as Branches

from josh_pipeline.audit.chain import RowAudit
from josh_pipeline.audit.text import link_status, verdict
from josh_pipeline.core.words import number_of
from josh_pipeline.harvest.rows import Side
from josh_pipeline.report.pages import Bubble, bubbles, page
from josh_pipeline.report.tree import DrawnTree, load_drawn_tree
from josh_pipeline.report.tree_svg import boxes, children_of, collapses
from josh_pipeline.report.words import call_text, result_text, short_end, shortened, spoken, user_words
from josh_pipeline.search.tree import Node
from josh_pipeline.store.warehouse import Warehouse

SAID_CHARACTERS = 70
LEARNING = {
    "conversations": "the loss is on the marked messages",
    "pairs": "the desirable message is preferred to the undesirable one",
    "samples": "the message grows likelier or rarer, as its branches fared beside the others of their segment",
}
"""Kind of row to what training does with it; of a single message its label says so."""


def tree_page(drawn: DrawnTree) -> str:
    """Render the viewer of one tree as a whole HTML document."""
    return page("tree.html.jinja", {"drawn": drawn, "svg": boxes(drawn)})


def tree_text(drawn: DrawnTree) -> RenderableType:
    """Render a tree for the terminal: what was rewarded, then the segments between collapses, in order."""
    tree = drawn.tree
    head = Text.assemble(
        (f"Search tree {tree.rollout_id}", "bold"),
        f"  {drawn.goal.title}, policy: {drawn.policy}, reward {tree.reward:.2f}, "
        f"{number_of(len(tree.nodes), 'node')}, {number_of(tree.rounds, 'round')}",
    )
    rewards = [
        Text(f"  ({index + 1}) {text}: {where}", style="green" if index in tree.earned else "dim")
        for index, (text, where) in enumerate(drawn.milestones)
    ]
    children, stops = children_of(tree), collapses(tree)
    roots = [node for node in tree.nodes if node.round == 0 or (node.node_id in stops and children[node.node_id])]
    parts = []
    for root in roots:
        after = Text(f"after round {root.round}", style="bold yellow")
        parts.append(Branches(after if root.round else _turn(drawn, root), guide_style="dim"))
        _grow(drawn, parts[-1], children[root.node_id], {**children, **dict.fromkeys(stops, ())})
    failure = [Text(f"failed ({tree.failure}): {tree.failure_message}", style="red")] if tree.failure else []
    unused = [Text(sentence, style="red") for sentence in drawn.unused]
    return Group(head, *failure, *unused, *rewards, *parts)


def _grow(drawn: DrawnTree, branches: Branches, below: Sequence[Node], children: Mapping[str, Sequence[Node]]) -> None:
    """Add subtrees; turns that follow each other without branching share one entry."""
    for node in below:
        chain = [node]
        while len(children[chain[-1].node_id]) == 1:
            chain.append(children[chain[-1].node_id][0])
        entry = branches.add(Group(*(_turn(drawn, step) for step in chain)))
        _grow(drawn, entry, children[chain[-1].node_id], children)


def _turn(drawn: DrawnTree, node: Node) -> Text:
    """A turn on one line: marks first, since a narrow terminal cuts the end; then calls and speech."""
    style = "yellow" if node.golden else "green" if node.successful else "red" if node.failure else ""
    text = Text(no_wrap=True, overflow="ellipsis")
    if node.round == 0:
        return text.append(f"user: {shortened(user_words(node), SAID_CHARACTERS)}", style="bold yellow")
    text.append(f"{node.round:>2} ", style="dim")
    for milestone in node.earned:
        text.append(f"({milestone + 1}) earned ", style="bold green")
    if node.end:
        text.append(f"[{short_end(node)}] ", style="dim")
    rows = drawn.rows_of(node)
    if rows.desirable or rows.undesirable:
        text.append(f"+{rows.desirable} −{rows.undesirable} ", style="cyan")
    if node.error_turn:
        text.append("error turn ", style="red")
    for call in node.calls:
        text.append(shortened(call_text(call.tool, call.arguments), SAID_CHARACTERS), style=f"bold {style}".strip())
        text.append(f" → {shortened(result_text(call), 40)}  ", style="dim")
    if said := spoken(node):
        text.append(f"“{shortened(said, SAID_CHARACTERS)}”", style=style)
    return text


def load_row_page(warehouse: Warehouse, found: RowAudit) -> str:
    """Render the page of an audited row, with the tree that it names where tree and goal are still there."""
    drawn = None
    if found.goal is not None and found.trees:
        drawn = load_drawn_tree(warehouse, found.trees[0].rollout_id, found.harvested)
    row, own = found.row, [node.node_id for _, node in found.nodes]
    return page(
        "row.html.jinja",
        {
            "record": found.record,
            "trained": any(link.kind == "adapter" for link in found.links),
            "sound": found.audit.sound,
            "verdict": verdict(found.audit),
            "findings": found.audit.findings,
            "label": f"{row.method.upper()}: {LEARNING.get(row.kind, row.label)}",
            "system": row.prompt[0].content,
            "prompt": row.prompt[1:],
            "sides": [
                (row.label if row.kind == "conversations" else standing(side), side.label, learned(side))
                for side in row.sides
            ],
            "siblings": siblings(found),
            "links": [(link, link_status(link)) for link in found.links],
            "drawn": drawn,
            "svg": boxes(drawn, own) if drawn else "",
            "node_ids": own,
        },
    )


def standing(side: Side) -> str:
    """Return a side's label, and how far above or below the mean of its segment a sampled message stands."""
    sample = side.sample
    if sample is None:
        return side.label
    branches = number_of(sample.leaves, "branch", "branches")
    return f"{side.label}, advantage {sample.advantage:+.3f} as the mean of {branches}"


def learned(side: Side) -> tuple[Bubble, ...]:
    """Return a side's messages; in a conversation those that carry loss are marked."""
    trained = {place for place, one in enumerate(side.said) if one.train}
    return bubbles(side.messages, trained if len(side.said) > 1 else ())


def siblings(found: RowAudit) -> list[Node]:
    """Return the turns beside the row's own, which are among them, in tree order."""
    parents = {node.parent_id for _, node in found.nodes if node.parent_id is not None}
    return [node for tree in found.trees for node in tree.nodes if node.parent_id in parents]
