"""Where each node of a search tree is drawn: rounds run down, branches lie side by side.

The search collapses to the golden leaf whenever a reward is earned, so a tree is a chain of small trees
(segments). Each segment is laid out tidily by contours (Reingold and Tilford 1981) and hung below the
golden leaf it grows from. The picture stays about as wide as the beam, however many rounds it has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from josh_pipeline.search.tree import Node, Tree


@dataclass(frozen=True)
class Layout:
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
    for node in tree.nodes:
        if node.parent_id is not None:
            children[node.parent_id].append(node)
    for siblings in children.values():
        siblings.sort(key=lambda node: node.path)
    return children


def collapsed(node: Node) -> bool:
    """True for a golden leaf on which the tree collapsed: it earned, and it was the first to."""
    return node.golden and bool(node.earned)


def lay_out(tree: Tree) -> Layout:
    """Place every node of a tree."""
    children = children_of(tree)
    segments: list[tuple[Node, dict[str, float]]] = []
    roots = [tree.nodes[0]]
    while roots:
        root = roots.pop()
        offsets = _segment(root, children)
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
    return Layout(x, columns, max(node.round for node in tree.nodes))


def _segment(root: Node, children: Mapping[str, Sequence[Node]]) -> dict[str, float]:
    """Offsets from ``root`` of all nodes down to the next collapse, which is included."""
    offsets, _, _ = _place(root, children, is_root=True)
    return offsets


def _place(
    node: Node, children: Mapping[str, Sequence[Node]], is_root: bool = False
) -> tuple[dict[str, float], list[float], list[float]]:
    """Offsets of a subtree from its root, and its left and right contour by depth."""
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
        moved_left = [value + shift for value in inner_left]
        moved_right = [value + shift for value in inner_right]
        left = left + moved_left[len(left) :]
        right = moved_right + right[len(moved_right) :]
    middle = (positions[0] + positions[-1]) / 2
    centred = {node_id: offset - middle for node_id, offset in offsets.items()}
    centred[node.node_id] = 0.0
    return centred, [0.0, *(v - middle for v in left)], [0.0, *(v - middle for v in right)]
