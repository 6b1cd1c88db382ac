"""Every label of a tree computed anew from its stored calls, to be held against what the search noted."""

from collections.abc import Mapping
from dataclasses import dataclass

from josh_pipeline.core.errors import RolloutError
from josh_pipeline.core.world import World, judged
from josh_pipeline.dialogue.conversation import made_again
from josh_pipeline.search.tree import Node, Tree


@dataclass(frozen=True)
class NodeLabels:
    """The labels of one node; ``Node`` explains them.

    Attributes:
        earned, golden, successful: the node's.
        calls: for each call the milestones that it newly earned on its branch.
        results: for each call, whether the world returned what is stored.
    """

    earned: tuple[int, ...]
    golden: bool
    successful: bool
    calls: tuple[tuple[int, ...], ...]
    results: tuple[bool, ...]


@dataclass(frozen=True)
class Labels:
    """The labels of one tree.

    Attributes:
        nodes: by node id.
        earned: milestones that the search should have collected.
        reward: the world's outcome of the golden conversation; 0 where nothing was earned, or it gives none.
    """

    nodes: Mapping[str, NodeLabels]
    earned: tuple[int, ...]
    reward: float


def relabel(tree: Tree, world: World) -> Labels:
    """Play a tree's calls again and derive every label from what they earn.

    Nothing that the search noted is read but messages, calls, parents and rounds.

    Args:
        tree: as stored.
        world: the goal's world, nothing called yet; it is forked, never changed.
    """
    worlds: dict[str | None, World] = {None: world}
    calls: dict[str, tuple[tuple[int, ...], ...]] = {}
    results: dict[str, tuple[bool, ...]] = {}
    for node in tree.nodes:
        before = worlds[node.parent_id]
        after = before.fork() if node.messages else before  # a branch that did nothing may have failed to fork
        worlds[node.node_id] = after
        made = made_again(after, node.messages, node.calls)
        calls[node.node_id] = tuple(earned for _, earned in made)
        results[node.node_id] = tuple(
            (result.payload, result.brief, result.error) == (call.payload, call.brief, call.error)
            for (result, _), call in zip(made, node.calls, strict=False)
        ) + (False,) * (len(node.calls) - len(made))
    collected: frozenset[int] = frozenset()
    earned: dict[str, tuple[int, ...]] = {node.node_id: () for node in tree.nodes}
    successful: set[str] = set()
    last: Node | None = None
    for number in range(1, tree.rounds + 1):
        earners = []
        for node in tree.nodes:
            state = worlds[node.node_id]
            if node.round == number and not state.void:
                new = tuple(sorted(state.milestones() - collected))
                earned[node.node_id] = new
                if new:
                    earners.append(node)
        if earners:
            last = earners[0]
            successful.update(step.node_id for node in earners for step in tree.walk(node))
            collected |= frozenset(earned[last.node_id])
    golden = {step.node_id for step in tree.walk(last)} if last is not None else set()
    try:
        reward = judged(worlds[last.node_id], tree.conversation(last)) if last is not None else 0.0
    except RolloutError:  # as in the search, whose tree failed there
        reward = 0.0
    nodes = {
        node_id: NodeLabels(
            earned=earned[node_id],
            golden=node_id in golden,
            successful=node_id in successful,
            calls=calls[node_id],
            results=results[node_id],
        )
        for node_id in earned
    }
    return Labels(nodes, tuple(sorted(collected)), reward)


def disagreements(tree: Tree, labels: Labels) -> list[str]:
    """Say where the stored tree and labels derived from its calls differ: one sentence each, best none."""
    found: list[str] = []
    for node in tree.nodes:
        found += [f"Node {node.node_id}: {sentence}" for sentence in node_disagreements(node, labels)]
    if tree.earned != labels.earned:
        found.append(f"Tree {tree.rollout_id}: earned {tree.earned} is stored, {labels.earned} is right.")
    if tree.reward != labels.reward:
        found.append(f"Tree {tree.rollout_id}: reward {tree.reward} is stored, {labels.reward} is right.")
    return found


def node_disagreements(node: Node, labels: Labels) -> list[str]:
    """Say where a stored node and its labels differ."""
    right = labels.nodes[node.node_id]
    stored_and_right = {
        "earned": (node.earned, right.earned),
        "golden": (node.golden, right.golden),
        "successful": (node.successful, right.successful),
        "earned by its calls": (tuple(call.earned for call in node.calls), right.calls),
    }
    found = [f"{name} {old} is stored, {new} is right." for name, (old, new) in stored_and_right.items() if old != new]
    if not all(right.results):
        found.append(f"{right.results.count(False)} calls return something else than is stored.")
    return found
