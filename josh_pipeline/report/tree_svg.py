"""A search tree as SVG, a box with words for each turn; the page's style paints it.

Rounds run down, branches lie side by side. Where the search collapsed to a single leaf another small tree
(segment) begins. Each is laid out tidily by contours (Reingold and Tilford 1981) and hung below the leaf it
grows from. The picture stays about as wide as the beam, however many rounds it has.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap

from josh_pipeline.report.tree import DrawnTree
from josh_pipeline.report.words import call_text, end_text, result_text, short_end, shortened, spoken, user_words
from josh_pipeline.search.tree import Node, Tree

BRANCH, ROUND = 152.0, 112.0
"""Width of a branch and height of a round, px."""
WIDTH, HEIGHT = 142.0, 74.0
"""Size of a turn's box."""
GUTTER, TOP = 92.0, 16.0
"""Room left of the tree for the rounds' names, and above it."""
LINE_CHARACTERS = 23
"""Characters of a 10 px line that fit into a box; more is cut by the box, never drawn over its edge."""
BOX_LINES = 4


@dataclass(frozen=True)
class Placement:
    """A drawn tree's geometry.

    Attributes:
        x: node id to its centre, in branch widths; 0 is the centre of the leftmost branch.
        columns: branch widths that the whole tree takes.
        rounds: the last round, so that ``rounds + 1`` rows are drawn.
    """

    x: Mapping[str, float]
    columns: float
    rounds: int


def children_of(tree: Tree) -> dict[str, list[Node]]:
    """Return each node's children in tree order, by node id."""
    children: dict[str, list[Node]] = {node.node_id: [] for node in tree.nodes}
    for node in sorted(tree.nodes, key=lambda node: node.path):
        if node.parent_id is not None:
            children[node.parent_id].append(node)
    return children


def collapses(tree: Tree) -> frozenset[str]:
    """Return the nodes to which alone the tree collapsed: they earned, and of their round nothing else went on."""
    went_on = Counter(node.round for node in tree.nodes if node.end is None)
    earned = (node for node in tree.nodes if node.golden and node.earned)
    return frozenset(node.node_id for node in earned if went_on[node.round] == (node.end is None))


def lay_out(tree: Tree) -> Placement:
    """Place every node of a tree."""
    children, stops = children_of(tree), collapses(tree)
    segments: list[tuple[Node, dict[str, float]]] = []
    roots = [tree.nodes[0]]
    while roots:
        root = roots.pop()
        below = {**children, **dict.fromkeys(stops - {root.node_id}, ())}
        offsets, _, _ = _place(root, below)
        segments.append((root, offsets))
        roots += [n for n in tree.nodes if n.node_id in offsets and n.node_id in stops and n is not root]
    columns = max(max(o.values()) - min(o.values()) + 1 for _, o in segments)
    x: dict[str, float] = {}
    for root, offsets in segments:
        low, high = min(offsets.values()), max(offsets.values())
        wanted = x.get(root.node_id, (columns - 1 - (low + high)) / 2)
        shift = min(max(wanted, -low), columns - 1 - high)
        for node_id, offset in offsets.items():
            x.setdefault(node_id, shift + offset)
    return Placement(x, columns, max(node.round for node in tree.nodes))


def _place(node: Node, children: Mapping[str, Sequence[Node]]) -> tuple[dict[str, float], list[float], list[float]]:
    """Offsets of a subtree from its root, and its left and right contour by depth."""
    below = children[node.node_id]
    if not below:
        return {node.node_id: 0.0}, [0.0], [0.0]
    offsets: dict[str, float] = {}
    left: list[float] = []
    right: list[float] = []
    positions: list[float] = []
    for child in below:
        inner, inner_left, inner_right = _place(child, children)
        shift = max((r - i + 1 for r, i in zip(right, inner_left, strict=False)), default=0.0)
        positions.append(shift)
        offsets |= {node_id: offset + shift for node_id, offset in inner.items()}
        left += [value + shift for value in inner_left[len(left) :]]
        right[: len(inner_right)] = [value + shift for value in inner_right]
    middle = (positions[0] + positions[-1]) / 2
    centred = {node_id: offset - middle for node_id, offset in offsets.items()} | {node.node_id: 0.0}
    return centred, [0.0, *(v - middle for v in left)], [0.0, *(v - middle for v in right)]


class Canvas:
    """Geometry of one drawing."""

    def __init__(self, layout: Placement) -> None:
        self.layout = layout
        self.width = GUTTER + layout.columns * BRANCH + 8
        self.height = TOP + (layout.rounds + 1) * ROUND

    def x(self, node: Node) -> float:
        """Centre of a turn's box."""
        return GUTTER + (self.layout.x[node.node_id] + 0.5) * BRANCH

    def y(self, round_: int) -> float:
        """Top of a round's boxes."""
        return TOP + round_ * ROUND

    def edge(self, parent: Node, child: Node) -> str:
        """A curve from under the parent to the top of the child."""
        x1, y1 = self.x(parent), self.y(parent.round) + HEIGHT
        x2, y2 = self.x(child), self.y(child.round)
        bend = (y2 - y1) * 0.55
        return f"M{x1:.1f},{y1:.1f}C{x1:.1f},{y1 + bend:.1f} {x2:.1f},{y2 - bend:.1f} {x2:.1f},{y2:.1f}"


def boxes(drawn: DrawnTree, own: Collection[str] = ()) -> str:
    """Draw a tree; it shrinks to 85 % of its size before it scrolls.

    Args:
        own: ids of the nodes that are outlined as those that it is about.
    """
    canvas = Canvas(lay_out(drawn.tree))
    nodes = [_box(drawn, node, canvas, node.node_id in own) for node in drawn.tree.nodes]
    name = f"Search tree: {len(nodes)} turns in {canvas.layout.rounds} rounds, reward {drawn.tree.reward:.2f}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="tree" role="group" aria-label="{name}" '
        f'viewBox="0 0 {canvas.width:.0f} {canvas.height:.0f}" '
        f'style="width:100%;min-width:{canvas.width * 0.85:.0f}px;max-width:{canvas.width:.0f}px">'
        f"{''.join((*_rounds(drawn, canvas), *_edges(drawn, canvas), *nodes))}</svg>"
    )


def look(node: Node) -> str:
    """Name how a node is painted: golden first, then earned beside the golden leaf, failed, and the rest."""
    paint = "golden" if node.golden else "successful" if node.successful else "failed" if node.failure else "plain"
    return f"{paint} unanswered" if node.error_turn else paint


def tooltip(node: Node) -> str:
    """A node in a few plain lines, for a pointer that rests on it and for those who hear the page."""
    lines = [f"{call_text(call.tool, call.arguments)} → {result_text(call)}" for call in node.calls]
    lines += [f"{who}: {said}" for who, said in (("agent", spoken(node)), ("user", user_words(node))) if said]
    return "\n".join([*lines, *filter(None, [end_text(node)])])


def _text(x: float, y: float, words: str, name: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{name}">{escape(words)}</text>'


def _edges(drawn: DrawnTree, canvas: Canvas) -> list[str]:
    """Curves from each turn to the turns after it, the golden ones on top."""
    return [
        f'<path class="{"edge golden" if node.golden else "edge"}" data-to="{escape(node.node_id)}" '
        f'd="{canvas.edge(drawn.tree.by_id[node.parent_id], node)}"/>'
        for node in sorted(drawn.tree.nodes, key=lambda node: node.golden)
        if node.parent_id is not None
    ]


def _rounds(drawn: DrawnTree, canvas: Canvas) -> list[str]:
    """Names of the rounds in the gutter, and a dotted line below each at which the tree collapsed."""
    shapes, stops = [], collapses(drawn.tree)
    for round_ in range(canvas.layout.rounds + 1):
        y = canvas.y(round_)
        shapes.append(_text(GUTTER - 16, y + HEIGHT / 2 + 4, f"round {round_}" if round_ else "opening", "round muted"))
        if any(n.node_id in stops and n.end is None and n.round == round_ for n in drawn.tree.nodes):
            line = y + HEIGHT + (ROUND - HEIGHT) * 0.62
            shapes.append(
                f'<line class="collapse" x1="8" x2="{canvas.width - 8:.0f}" y1="{line:.1f}" y2="{line:.1f}"/>'
            )
    return shapes


def _box(drawn: DrawnTree, node: Node, canvas: Canvas, own: bool) -> str:
    x, y = canvas.x(node) - WIDTH / 2, canvas.y(node.round)
    texts = [_text(8, 17 + 15 * place, text, kind) for place, (kind, text) in enumerate(_lines(node))]
    shapes = [
        f"<title>{escape(tooltip(node))}</title>",
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{WIDTH:g}" height="{HEIGHT:g}" rx="8"/>',
        f'<svg x="{x:.1f}" y="{y:.1f}" width="{WIDTH - 3:g}" height="{HEIGHT:g}">{"".join(texts)}</svg>',
        *_badges(node, x + WIDTH - 6, y + 2),
        *_foot(drawn, node, x, y + HEIGHT),
    ]
    name, parent = escape(node.node_id), escape(node.parent_id or "")
    return (
        f'<g class="node {look(node)}{" own" if own else ""}" id="box-{name}" data-node="{name}" '
        f'data-parent="{parent}" tabindex="0" role="button">{"".join(shapes)}</g>'
    )


def _lines(node: Node) -> list[tuple[str, str]]:
    """The lines of words in a node's box: calls and what they returned, then what was said."""
    lines: list[tuple[str, str]] = []
    for call in node.calls[:1] if len(node.calls) > 1 else node.calls:
        lines.append(("call", shortened(call_text(call.tool, call.arguments), LINE_CHARACTERS)))
        lines.append(("result muted", shortened("→ " + result_text(call), LINE_CHARACTERS)))
    if len(node.calls) > 1:
        lines[-1] = ("result muted", f"and {len(node.calls) - 1} more calls")
    said = user_words(node) if node.round == 0 else spoken(node)
    room = BOX_LINES - len(lines)
    parts = wrap(said or "(says nothing)", LINE_CHARACTERS, break_long_words=False, break_on_hyphens=False)
    if len(parts) > room:
        parts = [*parts[: room - 1], shortened(" ".join(parts[room - 1 :]), LINE_CHARACTERS)]
    return lines + [("says", part) for part in parts]


def _badges(node: Node, x: float, y: float) -> list[str]:
    """A numbered disc for each milestone that the turn earned, centred on (x, y) and leftwards."""
    places = [(x - 20 * place, milestone) for place, milestone in enumerate(reversed(node.earned))]
    return [
        f'<g class="earned"><circle cx="{cx:.1f}" cy="{y:.1f}" r="9"/>'
        f"{_text(cx, y + 3.8, str(number + 1), 'number')}</g>"
        for cx, number in places
    ]


def _foot(drawn: DrawnTree, node: Node, x: float, y: float) -> list[str]:
    """Below a box: why it has no child, and the rows that were taken from it."""
    shapes = []
    if node.end:
        tone = "good" if node.end == "solved" else "bad" if node.end == "failed" else "muted"
        shapes.append(_text(x + 2, y + 13, short_end(node), f"end {tone}"))
    rows, right = drawn.rows_of(node), x + WIDTH - 2
    for sign, number, tone in (("−", rows.undesirable, "bad"), ("+", rows.desirable + rows.golden, "good")):
        if number:
            shapes.append(_text(right, y + 13, f"{sign}{number} rows", f"rows {tone}"))
            right -= 50
    return shapes
