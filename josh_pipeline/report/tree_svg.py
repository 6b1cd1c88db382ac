"""A search tree as SVG: boxes with words for the viewer, dots for the report.

Rounds run down, branches lie side by side. The search collapses to the golden leaf whenever a reward is
earned, so a tree is a chain of small trees (segments). Each is laid out tidily by contours (Reingold and
Tilford 1981) and hung below the golden leaf it grows from. The picture stays about as wide as the beam,
however many rounds it has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap
from typing import Any

from josh_pipeline.report.palette import GOLDEN, GREEN, INK, MUTED, VERMILION
from josh_pipeline.report.tree import DrawnTree
from josh_pipeline.report.words import call_text, end_text, result_text, short_end, shortened, spoken, user_words
from josh_pipeline.search.tree import End, Node, Tree

STYLES: dict[str, dict[str, Any]] = {
    "call": {"size": 9.4, "fill": INK, "font_family": "ui-monospace, Menlo, Consolas, monospace"},
    "result": {"size": 9.8, "fill": MUTED},
    "says": {"size": 10.4, "fill": INK},
}
"""How a line in a box is set."""
GUTTER = 92.0
"""Room left of the tree for the rounds' names, px."""


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


def collapsed(node: Node) -> bool:
    """True for a golden leaf on which the tree collapsed: it earned, and it was the first to."""
    return node.golden and bool(node.earned)


def lay_out(tree: Tree) -> Placement:
    """Place every node of a tree."""
    children = children_of(tree)
    segments: list[tuple[Node, dict[str, float]]] = []
    roots = [tree.nodes[0]]
    while roots:
        root = roots.pop()
        offsets, _, _ = _place(root, children, is_root=True)
        segments.append((root, offsets))
        roots += [n for n in tree.nodes if n.node_id in offsets and collapsed(n) and n is not root]
    columns = max(max(o.values()) - min(o.values()) + 1 for _, o in segments)
    x: dict[str, float] = {}
    for root, offsets in segments:
        low, high = min(offsets.values()), max(offsets.values())
        wanted = x.get(root.node_id, (columns - 1 - (low + high)) / 2)
        shift = min(max(wanted, -low), columns - 1 - high)
        for node_id, offset in offsets.items():
            x.setdefault(node_id, shift + offset)
    return Placement(x, columns, max(node.round for node in tree.nodes))


def _place(
    node: Node, children: Mapping[str, Sequence[Node]], is_root: bool = False
) -> tuple[dict[str, float], list[float], list[float]]:
    """Offsets of a subtree from its root, down to the next collapse, and its left and right contour by depth."""
    below = () if collapsed(node) and not is_root else children[node.node_id]
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


@dataclass(frozen=True)
class Scale:
    """Sizes of a drawing in px: one branch's width, one round's height, and the box of a node."""

    column: float
    row: float
    width: float
    height: float
    gutter: float = GUTTER
    top: float = 16.0


BOXES = Scale(column=152, row=112, width=142, height=74)
LINE_CHARACTERS = 23
"""Characters of a 10 px line that fit into a box; more is cut by the box, never drawn over its edge."""
BOX_LINES = 4
SIGNS: Mapping[End, str] = {
    "failed": "×",
    "user_done": "–",
    "void": "–",
    "merged": "=",
    "rounds_spent": "…",
    "budget_spent": "…",
}
"""What is written into the dot of a turn that ends so."""
DOTS = Scale(column=64, row=38, width=20, height=20, top=8.0)


@dataclass(frozen=True)
class Look:
    """How a node is painted, and the class that says so."""

    name: str
    fill: str
    stroke: str
    width: float


def look(node: Node) -> Look:
    """Choose a node's paint: golden first, then earned beside the golden leaf, failed, and the rest."""
    if node.golden:
        return Look("golden", "#FFF4D6", GOLDEN, 2.4)
    if node.successful:
        return Look("successful", "#E3F4ED", GREEN, 1.8)
    if node.failure is not None:
        return Look("failed", "#FBE8DE", VERMILION, 1.6)
    return Look("plain", "#FFFFFF", "#AEB8C5", 1.2)


class Canvas:
    """Geometry of one drawing."""

    def __init__(self, layout: Placement, scale: Scale) -> None:
        self.layout = layout
        self.scale = scale
        self.width = scale.gutter + layout.columns * scale.column + 8
        self.height = scale.top + (layout.rounds + 1) * scale.row

    def x(self, node: Node) -> float:
        """Centre of a node."""
        return self.scale.gutter + (self.layout.x[node.node_id] + 0.5) * self.scale.column

    def y(self, round_: int) -> float:
        """Top of a round's boxes."""
        return self.scale.top + round_ * self.scale.row

    def edge(self, parent: Node, child: Node) -> str:
        """A curve from under the parent to the top of the child."""
        x1, y1 = self.x(parent), self.y(parent.round) + self.scale.height
        x2, y2 = self.x(child), self.y(child.round)
        bend = (y2 - y1) * 0.55
        return f"M{x1:.1f},{y1:.1f}C{x1:.1f},{y1 + bend:.1f} {x2:.1f},{y2 - bend:.1f} {x2:.1f},{y2:.1f}"


def _text(x: float, y: float, words: str, size: float, fill: str, **more: object) -> str:
    """A line of words; ``more`` are further attributes."""
    extra = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in more.items())
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{fill}"{extra}>{escape(words)}</text>'


def _edges(drawn: DrawnTree, canvas: Canvas, golden_width: float) -> list[str]:
    """Curves from each turn to the turns after it, the golden ones on top."""
    shapes = []
    for node in sorted(drawn.tree.nodes, key=lambda node: node.golden):
        if node.parent_id is not None:
            name = "edge golden" if node.golden else "edge"
            colour, width = (GOLDEN, golden_width) if node.golden else ("#B9C2CE", 1.4)
            path = canvas.edge(drawn.tree.by_id[node.parent_id], node)
            shapes.append(
                f'<path class="{name}" data-to="{node.node_id}" d="{path}" fill="none" '
                f'stroke="{colour}" stroke-width="{width}"/>'
            )
    return shapes


def _rounds(drawn: DrawnTree, canvas: Canvas, size: float) -> list[str]:
    """Names of the rounds in the gutter, and a dashed line below each at which the tree collapsed."""
    scale = canvas.scale
    shapes = []
    for round_ in range(canvas.layout.rounds + 1):
        y = canvas.y(round_)
        name = "opening" if round_ == 0 else f"round {round_}"
        middle = y + scale.height / 2 + size / 3
        shapes.append(_text(scale.gutter - 16, middle, name, size, MUTED, text_anchor="end"))
        if any(collapsed(n) and n.end is None and n.round == round_ for n in drawn.tree.nodes):
            line = y + scale.height + (scale.row - scale.height) * 0.62
            shapes.append(
                f'<line x1="8" x2="{canvas.width - 8:.0f}" y1="{line:.1f}" y2="{line:.1f}" '
                f'stroke="{GOLDEN}" stroke-dasharray="2 5" stroke-width="1"/>'
            )
    return shapes


def _badges(node: Node, x: float, y: float, radius: float) -> list[str]:
    """A numbered green disc for each milestone that the turn earned, centred on (x, y) and leftwards."""
    shapes = []
    for place, milestone in enumerate(reversed(node.earned)):
        cx = x - place * (radius * 2 + 2)
        bold: dict[str, Any] = {"text_anchor": "middle", "font_weight": 700}
        number = _text(cx, y + radius * 0.42, str(milestone + 1), radius * 1.25, "#fff", **bold)
        disc = f'<circle cx="{cx:.1f}" cy="{y:.1f}" r="{radius}" fill="{GREEN}"/>'
        shapes.append(f'<g class="earned">{disc}{number}</g>')
    return shapes


def tooltip(node: Node) -> str:
    """A node in a few plain lines, for a pointer that rests on it."""
    lines = [f"{call_text(call.tool, call.arguments)} → {result_text(call)}" for call in node.calls]
    lines += [f"{who}: {said}" for who, said in (("agent", spoken(node)), ("user", user_words(node))) if said]
    return "\n".join([*lines, *filter(None, [end_text(node)])])


def _box(drawn: DrawnTree, node: Node, canvas: Canvas) -> str:
    scale, paint = canvas.scale, look(node)
    x, y = canvas.x(node) - scale.width / 2, canvas.y(node.round)
    texts = [_text(8, 17 + 15 * place, text, **STYLES[kind]) for place, (kind, text) in enumerate(_lines(node))]
    dashes = ' stroke-dasharray="5 3"' if node.error_turn else ""
    shapes = [
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{scale.width}" height="{scale.height}" rx="8" '
        f'fill="{paint.fill}" stroke="{paint.stroke}" stroke-width="{paint.width}"{dashes}/>',
        f'<svg x="{x:.1f}" y="{y:.1f}" width="{scale.width - 3}" height="{scale.height}">',
        *texts,
        "</svg>",
        *_badges(node, x + scale.width - 6, y + 2, 9),
        *_foot(drawn, node, x, y + scale.height),
    ]
    title = f"<title>{escape(tooltip(node))}</title>"
    return (
        f'<g class="node {paint.name}" id="box-{node.node_id}" data-node="{node.node_id}" '
        f'data-parent="{node.parent_id or ""}" tabindex="0" role="button">{title}{"".join(shapes)}</g>'
    )


def _lines(node: Node) -> list[tuple[str, str]]:
    """The lines of words in a node's box: calls and what they returned, then what was said."""
    lines: list[tuple[str, str]] = []
    for call in node.calls[:1] if len(node.calls) > 1 else node.calls:
        lines.append(("call", shortened(call_text(call.tool, call.arguments), LINE_CHARACTERS)))
        lines.append(("result", shortened("→ " + result_text(call), LINE_CHARACTERS)))
    if len(node.calls) > 1:
        lines[-1] = ("result", f"and {len(node.calls) - 1} more calls")
    said = user_words(node) if node.round == 0 else spoken(node)
    room = BOX_LINES - len(lines)
    parts = wrap(said or "(says nothing)", LINE_CHARACTERS, break_long_words=False, break_on_hyphens=False)
    if len(parts) > room:
        parts = [*parts[: room - 1], shortened(" ".join(parts[room - 1 :]), LINE_CHARACTERS)]
    return lines + [("says", part) for part in parts]


def _foot(drawn: DrawnTree, node: Node, x: float, y: float) -> list[str]:
    """Below a box: why it has no child, and the rows that were taken from it."""
    shapes = []
    if node.end:
        colour = GREEN if node.end == "solved" else VERMILION if node.end == "failed" else MUTED
        shapes.append(_text(x + 2, y + 13, short_end(node), 10, colour, font_weight=600))
    rows, right = drawn.rows_of(node), x + BOXES.width - 2
    good = rows.desirable + rows.golden
    for sign, number, colour in (("−", rows.undesirable, VERMILION), ("+", good, GREEN)):
        if number:
            outline = {"stroke": "#fff", "stroke_width": 3, "paint_order": "stroke"}
            words = f"{sign}{number} rows"
            marks = {"class": "rows", "text_anchor": "end", "font_weight": 700}
            shapes.append(_text(right, y + 13, words, 10, colour, **marks, **outline))
            right -= 50
    return shapes


def _svg(canvas: Canvas, shapes: list[str], style: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {canvas.width:.0f} {canvas.height:.0f}" '
        f'{style} role="img" aria-label="search tree" '
        f'font-family="system-ui, -apple-system, Segoe UI, Roboto, DejaVu Sans, sans-serif">'
        f"{''.join(shapes)}</svg>"
    )


def boxes(drawn: DrawnTree) -> str:
    """Draw a tree with a box of words for each node; it shrinks to 85 % of its size before it scrolls."""
    canvas = Canvas(lay_out(drawn.tree), BOXES)
    nodes = [_box(drawn, node, canvas) for node in drawn.tree.nodes]
    shapes = [*_rounds(drawn, canvas, 12), *_edges(drawn, canvas, 3.2), *nodes]
    size = f'style="width:100%;min-width:{canvas.width * 0.85:.0f}px;max-width:{canvas.width:.0f}px"'
    return _svg(canvas, shapes, size)


def dots(drawn: DrawnTree) -> str:
    """Draw a tree with a dot for each node, small enough for a report's column."""
    canvas = Canvas(lay_out(drawn.tree), DOTS)
    shapes = [*_rounds(drawn, canvas, 11), *_edges(drawn, canvas, 3.0)]
    for node in drawn.tree.nodes:
        paint = look(node)
        x, y = canvas.x(node), canvas.y(node.round) + DOTS.height / 2
        dashes = ' stroke-dasharray="3 2"' if node.error_turn else ""
        colour = VERMILION if node.end == "failed" else MUTED
        sign = SIGNS.get(node.end) if node.end else None
        mark = _text(x, y + 4.5, sign, 13, colour, text_anchor="middle") if sign else ""
        shapes.append(
            f'<g class="node {paint.name}"><title>{escape(tooltip(node))}</title>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{DOTS.height / 2}" fill="{paint.fill}" '
            f'stroke="{paint.stroke}" stroke-width="{paint.width}"{dashes}/>{mark}'
            f"{''.join(_badges(node, x + (len(node.earned) - 1) * 8, y, 7.5))}</g>"
        )
    return _svg(canvas, shapes, f'style="max-width:{canvas.width:.0f}px;width:100%"')
