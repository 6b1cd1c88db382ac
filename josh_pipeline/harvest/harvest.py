"""From trees to training rows: the golden path, and what branched off it without earning."""

import random
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Literal

from josh_pipeline.core.ids import canonical_json
from josh_pipeline.core.messages import Conversation, Message
from josh_pipeline.harvest.rows import (
    DpoRow,
    KtoRow,
    Link,
    Method,
    Part,
    Row,
    Sampled,
    SftRow,
    Source,
    message_key,
    prompt_id,
)
from josh_pipeline.search.tree import Node, Tree

Mode = Literal["paper", "partial"]
Refusal = Literal[
    "leakage",  # tree: its goal has an evaluation role
    "too_little_reward",  # tree: not full (paper) or none at all (partial)
    "error_on_golden_path",  # tree: paper mode only
    "nothing_to_train",  # tree: no message of its conversation may carry loss
    "error_turn",  # message: desirable, but its turn never came to speak
    "unreadable",  # message: desirable, but it neither called nor spoke
    "cut_off",  # message: desirable, but the token limit ended it, not the model
    "desirable_elsewhere",  # undesirable message: the same one is desirable after that prompt
    "duplicate",  # row: the same row came from another node before
]
"""Why a tree, a message or a row is left out; counts are by reason."""


@dataclass(frozen=True)
class HarvestResult:
    """Rows, where they came from, and what was left out.

    Attributes:
        rows: each once, in the order of trees and nodes.
        links: a row has one for each of its nodes.
        refused: counts by reason.
        trees: trees that gave at least one row, duplicates included.
    """

    rows: tuple[Row, ...]
    links: tuple[Link, ...]
    refused: Mapping[Refusal, int]
    trees: int


@dataclass(frozen=True)
class _Said:
    """An assistant message that was sampled, where it stands.

    Attributes:
        node: the node that holds it.
        prompt: everything before it, system message first.
        prompt_id: content hash of the prompt.
        sampled: the message and its tokens.
        refusal: why it must not be learned as desirable, else None.
    """

    node: Node
    prompt: Conversation
    prompt_id: str
    sampled: Sampled
    refusal: Refusal | None

    @property
    def key(self) -> tuple[str, str]:
        return self.prompt_id, canonical_json(message_key(self.sampled.message))


@dataclass
class _Basket:
    """Collects rows, each once."""

    rows: dict[str, Row] = field(default_factory=dict)
    links: dict[Link, None] = field(default_factory=dict)
    refused: Counter[Refusal] = field(default_factory=Counter)
    trees: int = 0

    def add(self, row: Row, nodes: Iterable[tuple[Tree, Node, Part]]) -> None:
        row_id = row.row_id
        if row_id in self.rows:
            self.refused["duplicate"] += 1
        else:
            self.rows[row_id] = row
        for tree, node, part in nodes:
            self.links[Link(row_id, tree.rollout_id, node.node_id, part)] = None

    def result(self) -> HarvestResult:
        return HarvestResult(tuple(self.rows.values()), tuple(self.links), dict(self.refused), self.trees)


def harvest(
    trees: Collection[Tree], method: Method, mode: Mode, forbidden_goals: AbstractSet[str]
) -> HarvestResult:
    """Make the rows of one method.

    Args:
        trees: in a fixed order, which decides the order of the rows and which source a row names; gone
            through twice, so that they may be read from a store as they are needed.
        method: sft, kto or dpo.
        mode: ``paper`` takes trees with full reward whose golden path holds no error; ``partial``
            takes any earned reward, and puts no loss on error turns.
        forbidden_goals: goals of the evaluation roles; their trees are refused.
    """
    basket = _Basket()

    def golden() -> Iterator[tuple[Tree, Node]]:
        for tree in trees:
            end = golden_end(tree)
            if end is not None and _tree_refusal(tree, end, mode, forbidden_goals) is None:
                yield tree, end

    desirable: set[tuple[str, str]] = set()
    if method != "sft":
        for tree, golden_node in golden():
            walk = tree.walk(golden_node)
            desirable |= {said.key for said in _said(tree, walk) if said.refusal is None}
    for tree in trees:
        end = golden_end(tree)
        refusal = _tree_refusal(tree, end, mode, forbidden_goals)
        if end is None or refusal is not None:
            basket.refused[refusal or "too_little_reward"] += 1
        elif method == "sft":
            _add_conversation(basket, tree, end)
        else:
            _add_preferences(basket, tree, tuple(_said(tree, tree.walk(end))), method, desirable)
    return basket.result()


def harvest_unfiltered(
    trees: Sequence[Tree], rows: int, seed: int, forbidden_goals: AbstractSet[str]
) -> HarvestResult:
    """Make SFT rows of random conversations whatever they earned: the control arm.

    Each tree gives one random leaf's whole conversation before any gives a second.

    Args:
        trees: in a fixed order.
        rows: how many are wanted; there are fewer where the trees have no more leaves.
        seed: draws trees and leaves.
        forbidden_goals: goals of the evaluation roles; their trees are refused.
    """
    basket = _Basket()
    draw = random.Random(seed)
    decks: list[tuple[Tree, list[Node]]] = []
    for tree in trees:
        if tree.goal_id in forbidden_goals:
            basket.refused["leakage"] += 1
            continue
        leaves = [node for node in tree.nodes if node.end is not None]
        draw.shuffle(leaves)
        decks.append((tree, leaves))
    draw.shuffle(decks)
    while decks and len(basket.rows) < rows:
        for tree, leaves in decks:
            if len(basket.rows) < rows:
                _add_conversation(basket, tree, leaves.pop())
        decks = [(tree, leaves) for tree, leaves in decks if leaves]
    return basket.result()


def golden_end(tree: Tree) -> Node | None:
    """Return the node that ends the longest golden conversation; None if nothing was earned."""
    golden = [node for node in tree.nodes if node.golden]
    return max(golden, key=lambda node: len(node.path), default=None)


def _to_last_reply(conversation: Conversation) -> Conversation:
    replies = [index for index, message in enumerate(conversation) if message.role == "assistant"]
    return conversation[: replies[-1] + 1] if replies else ()


def _tree_refusal(
    tree: Tree, end: Node | None, mode: Mode, forbidden_goals: AbstractSet[str]
) -> Refusal | None:
    if tree.goal_id in forbidden_goals:
        return "leakage"
    if end is None or (mode == "paper" and tree.reward < 1.0):
        return "too_little_reward"
    if mode == "paper" and any(message.error for message in tree.conversation(end)):
        return "error_on_golden_path"
    return None


def _source(tree: Tree) -> Source:
    return Source(tree.goal_id, tree.rollout_id, tree.policy_digest)


def _system(tree: Tree) -> Message:
    return Message("system", tree.system)


def _said(tree: Tree, walk: Sequence[Node]) -> Iterator[_Said]:
    """Yield the sampled messages of a walk from the root, in order."""
    prompt: Conversation = (_system(tree),)
    error_turns = _error_turns(walk)
    for node in walk:
        yield from _said_in(tree, node, prompt, node.node_id in error_turns)
        prompt += node.messages


def _said_in(tree: Tree, node: Node, before: Conversation, error_turn: bool) -> Iterator[_Said]:
    drawn = iter(node.completions)  # the sentence that closes an error turn comes last and has none
    for index, message in enumerate(node.messages):
        if message.role != "assistant" or (completion := next(drawn, None)) is None:
            continue
        prompt = before + node.messages[:index]
        following = node.messages[index + 1 : index + 2]
        spoken = message.tool_calls or message.spoken is not None
        refusal: Refusal | None = None
        if error_turn:
            refusal = "error_turn"
        elif not spoken and following and following[0].role == "tool":
            refusal = "unreadable"
        elif completion.finish_reason == "length":
            refusal = "cut_off"  # A template would close it, and so teach to stop there.
        sampled = Sampled(message, completion.token_ids)
        yield _Said(node, prompt, prompt_id(tree.tools, prompt), sampled, refusal)


def _error_turns(walk: Sequence[Node]) -> frozenset[str]:
    """Return the nodes whose turn used its requests up; a turn may span several nodes."""
    found: set[str] = set()
    turn: list[str] = []
    for node in walk:
        turn.append(node.node_id)
        if node.error_turn:
            found.update(turn)
        if node.messages and (node.messages[-1].role == "user" or node.error_turn):
            turn = []
    return frozenset(found)


def _add_conversation(basket: _Basket, tree: Tree, end: Node) -> None:
    walk = tree.walk(end)
    messages = (_system(tree), *_to_last_reply(tree.conversation(end)))
    said = {len(one.prompt): one for one in _said(tree, walk)}
    for one in said.values():
        if one.refusal is not None:
            basket.refused[one.refusal] += 1
    train = tuple(index in said and said[index].refusal is None for index in range(len(messages)))
    if not any(train):
        basket.refused["nothing_to_train"] += 1
        return
    token_ids = tuple(
        said[index].sampled.token_ids if index in said else None for index in range(len(messages))
    )
    basket.trees += 1
    row = SftRow(_source(tree), tree.tools, messages, train, token_ids)
    basket.add(row, [(tree, node, "completion") for node in walk if node.completions])


def _add_preferences(
    basket: _Basket,
    tree: Tree,
    path: Sequence[_Said],
    method: Literal["kto", "dpo"],
    desirable_everywhere: AbstractSet[tuple[str, str]],
) -> None:
    """Add one tree's desirable messages and their rivals.

    Rivals are sought within the tree, for another goal's tree says nothing about this goal; but a
    message that is desirable after the same prompt in any tree is not called undesirable.
    """
    desirable: list[_Said] = []
    for one in path:
        if one.refusal is None:
            desirable.append(one)
        else:
            basket.refused[one.refusal] += 1
    prompts = {one.prompt_id for one in desirable}
    rivals: dict[str, list[_Said]] = {prompt: [] for prompt in prompts}
    for node in tree.nodes:
        if node.golden or node.successful or not node.completions:
            continue
        before = (_system(tree), *(m for step in tree.walk(node)[:-1] for m in step.messages))
        for one in _said_in(tree, node, before, node.error_turn):
            if one.prompt_id not in prompts:
                continue
            if one.key in desirable_everywhere:
                basket.refused["desirable_elsewhere"] += 1
            else:
                rivals[one.prompt_id].append(one)
    if not desirable:
        basket.refused["nothing_to_train"] += 1
        return
    basket.trees += 1
    source = _source(tree)
    for good in desirable:
        if method == "kto":
            row = KtoRow(source, tree.tools, good.prompt, good.sampled, desirable=True)
            basket.add(row, [(tree, good.node, "completion")])
        for bad in rivals[good.prompt_id]:
            if method == "kto":
                row = KtoRow(source, tree.tools, bad.prompt, bad.sampled, desirable=False)
                basket.add(row, [(tree, bad.node, "completion")])
            else:
                pair = DpoRow(source, tree.tools, good.prompt, good.sampled, bad.sampled)
                basket.add(pair, [(tree, good.node, "chosen"), (tree, bad.node, "rejected")])
