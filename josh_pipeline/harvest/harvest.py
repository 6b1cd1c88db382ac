"""From trees to training rows: the golden path, and what branched off it without earning."""

import random
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Literal

from josh_pipeline.core.content import canonical_json
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.messages import Conversation, Message
from josh_pipeline.core.policy import Completion
from josh_pipeline.harvest.rows import (
    Kind,
    Origin,
    Part,
    Provenance,
    Row,
    Said,
    Sample,
    Side,
    SideLabel,
    Tools,
    message_key,
    prompt_id,
)
from josh_pipeline.harvest.segments import DECIMALS, standings
from josh_pipeline.search.tree import Node, Tree

Mode = Literal["paper", "partial", "turns"]
Refusal = Literal[
    "leakage",  # tree: its goal has an evaluation role
    "too_little_reward",  # tree: not full (paper) or none at all (partial)
    "error_on_golden_path",  # tree: paper mode only
    "nothing_to_train",  # tree: no message of its conversation may carry loss, or all its branches fared the same
    "error_turn",  # message: desirable, but its turn never came to speak
    "unreadable",  # message: desirable, but it neither called nor spoke
    "cut_off",  # message: desirable, but the token limit ended it, not the model
    "unrewarded",  # message: golden, but it follows the last rewarded call; not in paper mode
    "detour",  # message: golden, but its turn called and earned nothing, or led to such a turn; turns mode only
    "desirable_elsewhere",  # undesirable message: the same one is desirable after that prompt
    "duplicate",  # row: the same row came from another node before
]
"""Why a tree, a message or a row is left out; counts are by reason."""


@dataclass(frozen=True)
class HarvestResult:
    """Rows, where they came from, and what was left out.

    Attributes:
        rows: each once, in the order of trees and nodes.
        origins: a row has one for each of its nodes.
        refused: counts by reason.
        trees: trees that gave at least one row, duplicates included.
    """

    rows: tuple[Row, ...]
    origins: tuple[Origin, ...]
    refused: Mapping[Refusal, int]
    trees: int


@dataclass(frozen=True)
class _Reply:
    """An assistant message that was sampled, where it stands.

    Attributes:
        node: the node that holds it.
        tools, prompt: what the agent was told and everything before the message, system message first.
        prompt_id: content hash of both.
        message, completion: what was sampled, read and as it was.
        refusal: why it must not be learned as desirable, else None.
    """

    node: Node
    tools: Tools
    prompt: Conversation
    prompt_id: str
    message: Message
    completion: Completion
    refusal: Refusal | None

    @property
    def key(self) -> tuple[str, str]:
        return self.prompt_id, canonical_json(message_key(self.message))

    def said(self, train: bool) -> Said:
        return Said(self.message, train, self.completion.token_ids, self.completion.prompt_digest)

    def side(self, label: SideLabel, sample: Sample | None = None) -> Side:
        return Side((self.said(train=True),), label, sample)


@dataclass
class _Basket:
    """Collects rows, each once."""

    rows: dict[str, Row] = field(default_factory=dict)
    origins: dict[Origin, None] = field(default_factory=dict)
    refused: Counter[Refusal] = field(default_factory=Counter)
    trees: int = 0

    def add(self, row: Row, nodes: Iterable[tuple[Tree, Node, Part]]) -> None:
        if row.row_id in self.rows:
            self.refused["duplicate"] += 1
        else:
            self.rows[row.row_id] = row
        for tree, node, part in nodes:
            self.origins[Origin(row.row_id, tree.rollout_id, node.node_id, part)] = None

    def result(self) -> HarvestResult:
        return HarvestResult(tuple(self.rows.values()), tuple(self.origins), dict(self.refused), self.trees)


def harvest(
    trees: Collection[Tree], method: str, kind: Kind, mode: Mode, forbidden_goals: AbstractSet[str]
) -> HarvestResult:
    """Make the rows of one method.

    Args:
        trees: in a fixed order, which decides the order of the rows and which source a row names; gone
            through twice, so that they may be read from a store as they are needed.
        method: its name in the settings.
        kind: what the method learns from.
        mode: ``paper`` takes trees with full reward whose golden path holds no error; ``partial``
            takes any earned reward, and puts no loss on error turns and on what follows the last rewarded call;
            ``turns`` as ``partial``, with no loss on detours.
        forbidden_goals: their trees are refused; see ``held_out``.
    """
    basket = _Basket()
    desirable: set[tuple[str, str]] = set()
    if kind in ("messages", "pairs"):
        for tree in trees:
            end = tree.golden_end
            if end is not None and _tree_refusal(tree, end, mode, forbidden_goals) is None:
                desirable |= {reply.key for reply in _replies(tree, end, mode) if reply.refusal is None}
    for tree in trees:
        end = tree.golden_end
        refusal = _tree_refusal(tree, end, mode, forbidden_goals)
        if end is None or refusal is not None:
            basket.refused[refusal or "too_little_reward"] += 1
        elif kind == "conversations":
            _add_conversation(basket, tree, end, method, mode)
        elif kind == "samples":
            _add_samples(basket, tree, method)
        else:
            _add_preferences(basket, tree, end, method, kind, mode, desirable)
    return basket.result()


def harvest_unfiltered(
    trees: Collection[Tree], rows: int, seed: int, forbidden_goals: AbstractSet[str]
) -> HarvestResult:
    """Make SFT rows of random conversations whatever they earned: the control arm.

    Each tree gives one random leaf's whole conversation before any gives a second.

    Args:
        trees: in a fixed order.
        rows: how many are wanted; there are fewer where the trees have no more leaves.
        seed: draws trees and leaves.
        forbidden_goals: their trees are refused.
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
                _add_conversation(basket, tree, leaves.pop(), "sft", "paper")
        decks = [(tree, leaves) for tree, leaves in decks if leaves]
    return basket.result()


def _tree_refusal(tree: Tree, end: Node | None, mode: Mode, forbidden_goals: AbstractSet[str]) -> Refusal | None:
    if tree.goal_id in forbidden_goals:
        return "leakage"
    if end is None or tree.reward <= 0.0 or (mode == "paper" and tree.reward < 1.0):
        return "too_little_reward"
    if mode == "paper" and any(message.error for message in tree.conversation(end)):
        return "error_on_golden_path"
    return None


def _told(tree: Tree, node: Node) -> tuple[Message, Tools]:
    system, tools = tree.told(node)
    return Message("system", system), tools


def _source(tree: Tree) -> Provenance:
    return Provenance(tree.goal_id, tree.rollout_id, tree.policy_digest)


def _replies(tree: Tree, end: Node, mode: Mode) -> Iterator[_Reply]:
    """Yield the sampled messages from the root to a node, in order."""
    before: Conversation = ()
    turns = _turns(tree.walk(end))
    detours = [mode == "turns" and any(n.calls for n in turn) and not any(n.earned for n in turn) for turn in turns]
    for turn, detour, leads_to_one in zip(turns, detours, [*detours[1:], False], strict=True):
        error = any(node.error_turn for node in turn)
        for node in turn:
            rewarded = _rewarded_calls(node) if node is end and mode != "paper" else None
            for reply in _replies_in(tree, node, before, error, rewarded):
                astray = detour or (leads_to_one and not reply.message.tool_calls)
                yield replace(reply, refusal=reply.refusal or ("detour" if astray else None))
            before += node.messages


def _rewarded_calls(node: Node) -> int | None:
    """Count a node's calls up to the last that earned; None where it earned otherwise, or nothing."""
    earners = [(place, set(call.earned)) for place, call in enumerate(node.calls, start=1) if call.earned]
    by_calls: set[int] = set().union(*(earned for _, earned in earners))
    return earners[-1][0] if earners and by_calls.issuperset(node.earned) else None


def _replies_in(
    tree: Tree, node: Node, before: Conversation, error_turn: bool, rewarded: int | None = None
) -> Iterator[_Reply]:
    """Yield a node's sampled messages, in order.

    Args:
        rewarded: calls of the node after which nothing was earned any more; None: that is not asked.
    """
    system, tools = _told(tree, node)
    drawn = iter(node.completions)  # the sentence that closes an error turn comes last and has none
    made = 0
    for index, message in enumerate(node.messages):
        if message.role != "assistant" or (completion := next(drawn, None)) is None:
            continue
        prompt = (system, *before, *node.messages[:index])
        following = node.messages[index + 1 : index + 2]
        spoken = message.tool_calls or message.spoken is not None
        refusal: Refusal | None = None
        if error_turn:
            refusal = "error_turn"
        elif not spoken and following and following[0].role == "tool":
            refusal = "unreadable"
        elif completion.finish_reason == "length":
            refusal = "cut_off"  # A template would close it, and so teach to stop there.
        elif rewarded is not None and made >= rewarded:
            refusal = "unrewarded"
        name = prompt_id(tools, prompt)
        yield _Reply(node, tools, prompt, name, message, completion, refusal)
        made += len(message.tool_calls)


def _turns(walk: Sequence[Node]) -> list[list[Node]]:
    """Group the nodes of a walk by agent turn; a turn may span several nodes."""
    turns: list[list[Node]] = [[]]
    for node in walk:
        turns[-1].append(node)
        if node.messages and (node.messages[-1].role == "user" or node.error_turn):
            turns.append([])
    return [turn for turn in turns if turn]


def _add_conversation(basket: _Basket, tree: Tree, end: Node, method: str, mode: Mode) -> None:
    """Add a conversation: a row for each stretch in which the agent was told the same."""
    replies = {len(reply.prompt) - 1: reply for reply in _replies(tree, end, mode)}
    for reply in replies.values():
        if reply.refusal is not None:
            basket.refused[reply.refusal] += 1
    before: Conversation = ()
    found = 0
    for (system, tools), stretch in groupby(tree.walk(end), lambda node: _told(tree, node)):
        nodes = list(stretch)
        first = max(len(before) - 1, 0)  # The user's message that the stretch answers stands in its side.
        talk = before + tuple(message for node in nodes for message in node.messages)
        said = [_said(talk[place], replies.get(place)) for place in range(first, len(talk))]
        while said and not said[-1].train:
            said.pop()
        if said:
            found += 1
            side = Side(tuple(said), "desirable")
            row = Row(method, _source(tree), tools, (system, *talk[:first]), (side,))
            basket.add(row, [(tree, node, "completion") for node in nodes if node.completions])
        before = talk
    if found:
        basket.trees += 1
    else:
        basket.refused["nothing_to_train"] += 1


def _said(message: Message, reply: _Reply | None) -> Said:
    return Said(message) if reply is None else reply.said(reply.refusal is None)


def _add_preferences(
    basket: _Basket,
    tree: Tree,
    end: Node,
    method: str,
    kind: Kind,
    mode: Mode,
    desirable_everywhere: AbstractSet[tuple[str, str]],
) -> None:
    """Add one tree's desirable messages and their rivals.

    Rivals are sought within the tree, for another goal's tree says nothing about this goal; but a
    message that is desirable after the same prompt in any tree is not called undesirable.
    """
    desirable: list[_Reply] = []
    for one in _replies(tree, end, mode):
        if one.refusal is None:
            desirable.append(one)
        else:
            basket.refused[one.refusal] += 1
    prompts = {one.prompt_id for one in desirable}
    rivals: dict[str, list[_Reply]] = {prompt: [] for prompt in prompts}
    for node in tree.nodes:
        if node.golden or node.successful or not node.completions:
            continue
        before = tuple(message for step in tree.walk(node)[:-1] for message in step.messages)
        for one in _replies_in(tree, node, before, node.error_turn):
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

    def row(reply: _Reply, *sides: Side) -> Row:
        return Row(method, _source(tree), reply.tools, reply.prompt, sides)

    for good in desirable:
        if kind == "messages":
            basket.add(row(good, good.side("desirable")), [(tree, good.node, "completion")])
        for bad in rivals[good.prompt_id]:
            worse = bad.side("undesirable")
            if kind == "messages":
                basket.add(row(bad, worse), [(tree, bad.node, "completion")])
            else:
                pair = row(good, good.side("desirable"), worse)
                basket.add(pair, [(tree, good.node, "chosen"), (tree, bad.node, "rejected")])


def _add_samples(basket: _Basket, tree: Tree, method: str) -> None:
    """Add what was sampled in segments whose leaves fared differently; what siblings drew alike is one row.

    Raises:
        UserError: it is not known how likely what was sampled was.
    """
    found = standings(tree)
    drawn: dict[Hashable, list[_Reply]] = {}
    for node in tree.nodes:
        if node.node_id in found:
            before = tuple(message for step in tree.walk(node)[:-1] for message in step.messages)
            for one in _replies_in(tree, node, before, node.error_turn):
                drawn.setdefault((one.prompt_id, one.completion.token_ids, one.completion.temperature), []).append(one)
    rows = len(basket.rows)
    for replies in drawn.values():
        first, stands = replies[0], [found[one.node.node_id] for one in replies]
        leaves = sum(one.leaves for one in stands)
        advantage = round(sum(one.advantage * one.leaves for one in stands) / leaves, DECIMALS)
        refusal = next((one.refusal for one in replies if one.refusal), None)
        logprobs, temperature = first.completion.logprobs, first.completion.temperature
        if logprobs is None or temperature is None:
            raise UserError(
                f"Tree {tree.rollout_id} was sampled without log-probabilities, which {method} needs: search with the "
                "model here, search.top_p 1 and search.top_k 0, and with another --seed where an older release "
                "searched; or choose another training.method."
            )
        if advantage > 0 and refusal is not None:
            basket.refused[refusal] += 1
        elif advantage:
            sample = Sample(logprobs, temperature, advantage, stands[0].deviation, leaves)
            side = first.side("desirable" if advantage > 0 else "undesirable", sample)
            row = Row(method, _source(tree), first.tools, first.prompt, (side,))
            basket.add(row, [(tree, one.node, "completion") for one in replies])
    if len(basket.rows) > rows:
        basket.trees += 1
    else:
        basket.refused["nothing_to_train"] += 1


def counted(harvested: HarvestResult, tokens: Callable[[Row], int]) -> HarvestResult:
    """Note the length of each row in it."""
    return replace(harvested, rows=tuple(replace(row, tokens=tokens(row)) for row in harvested.rows))


def without_long(harvested: HarvestResult, limit: int) -> HarvestResult:
    """Leave out rows that training would have to cut, and with a desirable message its undesirable rivals."""
    fitting = [row for row in harvested.rows if row.tokens <= limit]
    answered = {row.prompt_id for row in fitting if row.good}
    kept = tuple(row for row in fitting if not row.rival or row.prompt_id in answered)
    ids = {row.row_id for row in kept}
    origins = tuple(origin for origin in harvested.origins if origin.row_id in ids)
    trees = len({origin.rollout_id for origin in origins})
    return replace(harvested, rows=kept, origins=origins, trees=min(trees, harvested.trees))


def with_earlier(own: Sequence[Row], earlier: Iterable[Sequence[Row]]) -> list[Row]:
    """Return an iteration's rows, then those of earlier iterations that say nothing about the same thing.

    Where two iterations judge the same completion of the same prompt (or the same two against each other),
    the newer judgement stands.

    Args:
        own: the iteration's rows.
        earlier: rows of earlier iterations, newest first; those of another method are left out.
    """
    rows = list(own)
    judged = {_subject(row) for row in rows}
    methods = {row.method for row in own}
    for older in earlier:
        fresh = [row for row in older if row.method in methods and _subject(row) not in judged]
        rows += fresh
        judged |= {_subject(row) for row in fresh}
    return rows


def _subject(row: Row) -> Hashable:
    """What a row is a judgement about."""
    if row.kind == "conversations":
        return row.row_id
    return row.prompt_id, frozenset(canonical_json(side.key) for side in row.sides)
