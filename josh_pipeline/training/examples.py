"""Rows become what TRL reads: token ids with labels for SFT, conversations for KTO and DPO."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from josh_pipeline.dialogue.demonstrations import Demonstration
from josh_pipeline.dialogue.messages import Conversation
from josh_pipeline.errors import UserError
from josh_pipeline.policies.chat import ChatRenderer, template_message
from josh_pipeline.search.rows import DpoRow, KtoRow, SftRow, Tools

Item = TypeVar("Item")

IGNORED = -100
"""The label of a token without loss, as in PyTorch's cross entropy."""


@dataclass(frozen=True)
class TokenExample:
    """One conversation as tokens.

    Attributes:
        input_ids: the whole conversation.
        labels: the same ids where there is loss, ``IGNORED`` elsewhere.
    """

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]


def token_example(
    messages: Conversation, tools: Tools, train: Sequence[bool], renderer: ChatRenderer
) -> TokenExample:
    """Tokenize a conversation with the loss on the chosen assistant messages only.

    Args:
        messages: system message first.
        train: for each message, whether its tokens (end of turn included) carry loss.
    """
    ids, owner = renderer.row_ids(messages, tools)
    labels = (
        token if position >= 0 and train[position] else IGNORED
        for token, position in zip(ids, owner, strict=True)
    )
    return TokenExample(tuple(ids), tuple(labels))


def demonstration_examples(
    demonstrations: Sequence[Demonstration], renderer: ChatRenderer, max_tokens: int
) -> list[TokenExample]:
    """Tokenize scripted conversations; the loss is on every assistant message.

    Raises:
        UserError: a conversation is longer than ``max_tokens``.
    """
    examples = []
    for demonstration in demonstrations:
        # The script's end: whatever follows the last assistant message teaches nothing.
        messages = demonstration.conversation
        while messages and messages[-1].role != "assistant":
            messages = messages[:-1]
        train = [message.role == "assistant" for message in messages]
        examples.append(token_example(messages, (), train, renderer))
    _refuse_long([len(example.input_ids) for example in examples], max_tokens)
    return examples


def sft_examples(rows: Sequence[SftRow], renderer: ChatRenderer, max_tokens: int) -> list[TokenExample]:
    """Tokenize SFT rows.

    Raises:
        UserError: a row is longer than ``max_tokens``.
    """
    examples = [token_example(row.messages, row.tools, row.train, renderer) for row in rows]
    _refuse_long([len(example.input_ids) for example in examples], max_tokens)
    return examples


def kto_examples(
    rows: Sequence[KtoRow], renderer: ChatRenderer, max_tokens: int, batch_size: int, seed: int
) -> list[dict[str, Any]]:
    """Return KTO rows in TRL's conversational form, in the order in which they will be trained.

    TRL estimates the KL term from each completion with its neighbour's prompt, and reads the rows in
    order. So rows of one prompt are kept apart, and a last batch of one row is left out.

    Raises:
        UserError: a row is longer than ``max_tokens``, or fewer than two rows are left.
    """
    _refuse_long(
        [_tokens((*row.prompt, row.completion.message), row.tools, renderer) for row in rows], max_tokens
    )
    ordered = apart(rows, [row.prompt for row in rows], batch_size, seed)
    if len(ordered) % batch_size == 1:
        ordered = ordered[:-1]
    if len(ordered) < 2:
        raise UserError("KTO needs at least two rows: roll out more goals, or choose another method.")
    return [
        {
            "prompt": _chat(row.prompt, row.tools),
            "completion": _chat((row.completion.message,), row.tools),
            "label": row.desirable,
            "tools": _tools_text(row.tools),
        }
        for row in ordered
    ]


def dpo_examples(
    rows: Sequence[DpoRow], renderer: ChatRenderer, max_tokens: int, seed: int
) -> list[dict[str, Any]]:
    """Return DPO rows in TRL's conversational form, shuffled.

    Raises:
        UserError: a row is longer than ``max_tokens``.
    """
    for side in ("chosen", "rejected"):
        completions = [getattr(row, side).message for row in rows]
        lengths = [
            _tokens((*row.prompt, message), row.tools, renderer)
            for row, message in zip(rows, completions, strict=True)
        ]
        _refuse_long(lengths, max_tokens)
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)
    return [
        {
            "prompt": _chat(row.prompt, row.tools),
            "chosen": _chat((row.chosen.message,), row.tools),
            "rejected": _chat((row.rejected.message,), row.tools),
            "tools": _tools_text(row.tools),
        }
        for row in shuffled
    ]


def apart(items: Sequence[Item], keys: Sequence[Any], batch_size: int, seed: int) -> list[Item]:
    """Shuffle so that items with equal keys stand in different batches wherever that is possible.

    Args:
        keys: one hashable key an item.
        batch_size: items of a batch; batches are consecutive.
    """
    groups: dict[Any, list[Item]] = {}
    for item, key in zip(items, keys, strict=True):
        groups.setdefault(key, []).append(item)
    generator = random.Random(seed)
    shuffled = list(groups.values())
    generator.shuffle(shuffled)
    full, rest = divmod(len(items), batch_size)
    room = [batch_size] * full + [rest] * (rest > 0)
    # Dealing the largest groups round the batches first puts siblings into different ones.
    dealt: list[list[Item]] = [[] for _ in room]
    position = 0
    for group in sorted(shuffled, key=len, reverse=True):
        for item in group:
            while len(dealt[position % len(room)]) >= room[position % len(room)]:
                position += 1
            dealt[position % len(room)].append(item)
            position += 1
    first = dealt[:full]
    generator.shuffle(first)
    dealt[:full] = first
    return [item for batch in dealt for item in batch]


def _refuse_long(lengths: Sequence[int], max_tokens: int) -> None:
    long = [length for length in lengths if length > max_tokens]
    if long:
        raise UserError(
            f"{len(long)} of {len(lengths)} rows are longer than training.max_tokens = {max_tokens} "
            f"(the longest has {max(long)}): raise it."
        )


def _tokens(messages: Conversation, tools: Tools, renderer: ChatRenderer) -> int:
    return len(renderer.row_ids(messages, tools)[0])


def _chat(messages: Conversation, tools: Tools) -> list[dict[str, Any]]:
    return [template_message(message, structured=bool(tools)) for message in messages]


def _tools_text(tools: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps(list(tools))
