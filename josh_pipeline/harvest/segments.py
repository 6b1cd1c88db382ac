"""How the branches of a search tree fared against each other, segment by segment.

A segment lies between two collapses of the search: it begins after the nodes on which the last one left off (the
first after the root) and ends with the round in which the next milestones were earned. Its leaves, on the way to
the same milestones, are a group as GRPO has it (arXiv 2402.03300).

A leaf's return is what it earned, as a share of what the best of its group did: a branch that had earned nothing
when another one had, or whose user left, or that spoilt its world, or that used its rounds up, gets 0. So the
round of the collapse is a segment's horizon: what a branch might have earned in a later one counts for nothing.
Left out are branches of which nothing was learned: those that failed, that the budget cut off, and twins, which
nobody played on.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean, stdev

from josh_pipeline.search.tree import Node, Tree

DECIMALS = 6
"""Of an advantage: what a sum of thirds leaves behind the last one is no advantage."""
PLAYED = ("solved", "pruned", "void", "user_done", "rounds_spent")
"""Ends of which something was learned."""


@dataclass(frozen=True)
class Standing:
    """How a node of a tree stands among the leaves of its segment.

    Attributes:
        advantage: mean over the leaves below it, or it itself, of their return less that of the whole group.
        deviation: standard deviation of the group's returns.
        leaves: of the group, below it or it itself.
    """

    advantage: float
    deviation: float
    leaves: int


def standings(tree: Tree) -> Mapping[str, Standing]:
    """Return how each node stands, by its id, in tree order; none of a segment whose leaves all fared the same."""
    groups: dict[int, list[tuple[Node, ...]]] = defaultdict(list)
    for node in tree.nodes:
        if node.round and (node.end in PLAYED or node.kept):
            way = way_to(tree, node)
            groups[way[0].round].append(way[1:])
    found = {}
    for ways in groups.values():
        earned = [len(way[-1].earned) for way in ways]
        if min(earned) == max(earned):
            continue
        returns = [one / max(earned) for one in earned]
        below: dict[str, list[float]] = defaultdict(list)
        for way, one in zip(ways, returns, strict=True):
            for node in way:
                below[node.node_id].append(one - fmean(returns))
        for name, advantages in below.items():
            found[name] = Standing(round(fmean(advantages), DECIMALS), stdev(returns), len(advantages))
    return {node.node_id: found[node.node_id] for node in tree.nodes if node.node_id in found}


def way_to(tree: Tree, leaf: Node) -> tuple[Node, ...]:
    """Return the node after which a leaf's segment begins, and those of it that lead to the leaf, which is last."""
    walk = tree.walk(leaf)
    begin = max(place for place, node in enumerate(walk[:-1]) if not node.round or node.kept)
    return walk[begin:]
