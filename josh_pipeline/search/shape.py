"""What trees look like: how far siblings differ, why leaves ended, and what was not found."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations, groupby

from josh_pipeline.core.environment import Task
from josh_pipeline.search.tree import End, Node, Tree


@dataclass
class Shape:
    """Counts over trees.

    Attributes:
        pairs: pairs of siblings that were sampled in the same round and did not fail.
        same: those of them that did and said the same to the letter.
        ends: the leaves of trees without full reward, by why they ended.
        missed: the wanted calls that these trees never earned, by what failures of them are counted under.
    """

    pairs: int = 0
    same: int = 0
    ends: Counter[End] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)

    def add(self, tree: Tree, goal: Task) -> None:
        """Count a tree of a goal."""
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
            self.missed.update(call.label for place, call in enumerate(goal.calls) if place not in tree.earned)

    @property
    def distinct(self) -> float:
        """The share of sibling pairs that differ; 1 where there is none."""
        return 1.0 - self.same / self.pairs if self.pairs else 1.0


def shape_of(trees: Iterable[Tree], goals: Mapping[str, Task]) -> Shape:
    """Count over trees.

    Args:
        goals: by id.
    """
    shape = Shape()
    for tree in trees:
        shape.add(tree, goals[tree.goal_id])
    return shape


def _said(node: Node) -> tuple[object, ...]:
    """A turn without the user's answer to it."""
    return node.messages[:-1] if node.messages[-1].role == "user" else node.messages
