"""What a tree looks like: how far siblings differ, and why its leaves ended."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations, groupby

from josh_pipeline.search.tree import End, Node, Tree


@dataclass
class Shape:
    """Counts over trees.

    Attributes:
        pairs: pairs of siblings that were sampled in the same round and did not fail.
        same: those of them that did and said the same to the letter.
        ends: the leaves of trees without full reward, by why they ended.
    """

    pairs: int = 0
    same: int = 0
    ends: Counter[End] = field(default_factory=Counter)

    def add(self, tree: Tree) -> None:
        """Count a tree."""
        by_parent = sorted(
            (node for node in tree.nodes if node.completions and node.failure is None),
            key=lambda node: (node.round, node.path),
        )
        for _, siblings in groupby(by_parent, key=lambda node: (node.round, node.parent_id)):
            said = [_said(node) for node in siblings]
            self.pairs += len(said) * (len(said) - 1) // 2
            self.same += sum(one == other for one, other in combinations(said, 2))
        if tree.reward < 1.0:
            self.ends.update(node.end for node in tree.nodes if node.end is not None)

    @property
    def distinct(self) -> float:
        """The share of sibling pairs that differ; 1 where there is none."""
        return 1.0 - self.same / self.pairs if self.pairs else 1.0


def shape_of(trees: Iterable[Tree]) -> Shape:
    """Count over trees."""
    shape = Shape()
    for tree in trees:
        shape.add(tree)
    return shape


def _said(node: Node) -> tuple[object, ...]:
    """A turn without the user's answer to it."""
    return node.messages[:-1] if node.messages[-1].role == "user" else node.messages
