"""Rows become what trainers read: token ids, and conversations in TRL's form."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.messages import Conversation, Message
from josh_pipeline.harvest.rows import DpoRow, KtoRow, SftRow, Tools
from josh_pipeline.policies.chat import ChatRenderer, template_message

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


@dataclass(frozen=True)
class PromptedTokens:
    """A prompt, and one assistant message after it, cut as TRL cuts them.

    Attributes:
        prompt: up to the opening of the assistant's message.
        completion: all that the chat template writes from there on.
    """

    prompt: tuple[int, ...]
    completion: tuple[int, ...]

    @property
    def example(self) -> TokenExample:
        """Both, with loss on the completion."""
        return self.followed_by(self)

    def followed_by(self, other: "PromptedTokens") -> TokenExample:
        """Return this prompt with another one's completion."""
        labels = (IGNORED,) * len(self.prompt) + other.completion
        return TokenExample(self.prompt + other.completion, labels)


@dataclass(frozen=True)
class KtoTokens:
    """A KTO row as tokens."""

    prompted: PromptedTokens
    desirable: bool


@dataclass(frozen=True)
class PairTokens:
    """A DPO row as tokens; both sides have the same prompt."""

    chosen: PromptedTokens
    rejected: PromptedTokens


def sft_tokens(row: SftRow, renderer: ChatRenderer) -> TokenExample:
    """Tokenize a conversation with the loss on the chosen messages only, end of turn included."""
    ids, owner = renderer.row_ids(row.messages, row.tools)
    labels = (
        token if position >= 0 and row.train[position] else IGNORED
        for token, position in zip(ids, owner, strict=True)
    )
    return TokenExample(tuple(ids), tuple(labels))


def kto_tokens(row: KtoRow, renderer: ChatRenderer) -> KtoTokens:
    """Tokenize a labelled message."""
    return KtoTokens(_prompted(row.prompt, row.completion.message, row.tools, renderer), row.desirable)


def pair_tokens(row: DpoRow, renderer: ChatRenderer) -> PairTokens:
    """Tokenize a pair."""
    chosen, rejected = (
        _prompted(row.prompt, side.message, row.tools, renderer) for side in (row.chosen, row.rejected)
    )
    return PairTokens(chosen, rejected)


def _prompted(prompt: Conversation, message: Message, tools: Tools, renderer: ChatRenderer) -> PromptedTokens:
    asked = renderer.prompt_ids(prompt, tools)
    whole, _ = renderer.row_ids((*prompt, message), tools)
    # Where a template writes the opening of a message in two ways, the completion begins where they part.
    pairs = enumerate(zip(asked, whole, strict=False))
    cut = next((place for place, (one, other) in pairs if one != other), min(len(asked), len(whole)))
    return PromptedTokens(tuple(whole[:cut]), tuple(whole[cut:]))


def refuse_long(lengths: Sequence[int], max_tokens: int) -> None:
    """Refuse rows that training would have to cut.

    Raises:
        UserError: a row is longer than ``max_tokens``.
    """
    long = [length for length in lengths if length > max_tokens]
    if long:
        raise UserError(
            f"{len(long)} of {len(lengths)} rows are longer than training.max_tokens = {max_tokens} "
            f"(the longest has {max(long)}): raise it."
        )


def kto_conversations(rows: Sequence[KtoRow]) -> list[dict[str, Any]]:
    """Return KTO rows in TRL's conversational form."""
    return [
        {
            "prompt": _chat(row.prompt, row.tools),
            "completion": _chat((row.completion.message,), row.tools),
            "label": row.desirable,
            "tools": _tools(row.tools),
        }
        for row in rows
    ]


def dpo_conversations(rows: Sequence[DpoRow]) -> list[dict[str, Any]]:
    """Return DPO rows in TRL's conversational form."""
    return [
        {
            "prompt": _chat(row.prompt, row.tools),
            "chosen": _chat((row.chosen.message,), row.tools),
            "rejected": _chat((row.rejected.message,), row.tools),
            "tools": _tools(row.tools),
        }
        for row in rows
    ]


def _tools(tools: Tools) -> str | None:
    """Return none as none: templates ask whether tools were given, and an empty list is given."""
    return json.dumps(list(tools)) if tools else None


def _chat(messages: Conversation, tools: Tools) -> list[dict[str, Any]]:
    return [template_message(message, structured=bool(tools)) for message in messages]
