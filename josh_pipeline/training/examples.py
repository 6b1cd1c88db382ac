"""Rows become what trainers read: token ids, and conversations in TRL's form."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.ids import canonical_json
from josh_pipeline.core.messages import Conversation
from josh_pipeline.harvest.rows import Row, Side, Tools
from josh_pipeline.policies.chat import ChatRenderer, template_message

IGNORED = -100
"""The label of a token without loss, as in PyTorch's cross entropy."""


@dataclass(frozen=True)
class TokenExample:
    """One sequence of tokens.

    Attributes:
        input_ids: prompt and side.
        labels: the same ids where there is loss, ``IGNORED`` elsewhere.
        cut: tokens of the prompt, up to the opening of an assistant's message, as TRL cuts it; 0 for a side
            of several messages.
    """

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    cut: int = 0

    @property
    def completion(self) -> tuple[int, ...]:
        """All that the chat template writes after the prompt."""
        return self.input_ids[self.cut :]

    def followed_by(self, other: "TokenExample") -> "TokenExample":
        """Return this prompt with another one's completion, which has the loss."""
        prompt = self.input_ids[: self.cut]
        labels = (IGNORED,) * len(prompt) + other.completion
        return TokenExample(prompt + other.completion, labels, self.cut)


@dataclass(frozen=True)
class TokenRow:
    """A row, and each of its sides as tokens."""

    row: Row
    sides: tuple[TokenExample, ...]


class RowTokenizer:
    """Turns rows into tokens; what several of them share is rendered once."""

    def __init__(self, renderer: ChatRenderer) -> None:
        self._renderer = renderer
        self._prompts: dict[str, list[int]] = {}
        self._lengths: dict[tuple[str, str], int] = {}

    def length(self, row: Row) -> int:
        """Count a row's tokens; of a pair those of the longer side."""
        return max(self._length(row, side) for side in row.sides)

    def _length(self, row: Row, side: Side) -> int:
        key = row.prompt_id, canonical_json(side.key)
        if key not in self._lengths:
            self._lengths[key] = len(self._renderer.ids(row.conversation(side), row.tools))
        return self._lengths[key]

    def tokens(self, row: Row) -> TokenRow:
        """Tokenize a row.

        Raises:
            UserError: the row was counted with another tokenizer or template.
        """
        tokenize = self._conversation if row.kind == "conversations" else self._message
        found = TokenRow(row, tuple(tokenize(row, side) for side in row.sides))
        if row.tokens not in (0, max(len(example.input_ids) for example in found.sides)):
            raise UserError(
                f"Row {row.row_id} was counted with another tokenizer or chat template: harvest the rows "
                "again (materialize preference_pairs)."
            )
        return found

    def _conversation(self, row: Row, side: Side) -> TokenExample:
        """Put the loss on the chosen messages only, end of turn included."""
        ids, owner = self._renderer.row_ids(row.conversation(side), row.tools)
        train = [False] * len(row.prompt) + [one.train for one in side.said]
        labels = (
            token if position >= 0 and train[position] else IGNORED
            for token, position in zip(ids, owner, strict=True)
        )
        return TokenExample(tuple(ids), tuple(labels))

    def _message(self, row: Row, side: Side) -> TokenExample:
        """Put the loss on all that follows the prompt."""
        if row.prompt_id not in self._prompts:
            self._prompts[row.prompt_id] = self._renderer.prompt_ids(row.prompt, row.tools)
        asked = self._prompts[row.prompt_id]
        whole = self._renderer.ids(row.conversation(side), row.tools)
        # Where a template writes the opening of a message in two ways, the completion begins where they part.
        pairs = enumerate(zip(asked, whole, strict=False))
        cut = next((place for place, (one, other) in pairs if one != other), min(len(asked), len(whole)))
        return TokenExample(tuple(whole), (IGNORED,) * cut + tuple(whole[cut:]), cut)


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


def conversational(row: Row) -> dict[str, Any]:
    """Return a row in TRL's conversational form, without its tools."""
    if row.kind == "conversations":
        return {"messages": _chat(row.conversation(row.sides[0]), row.tools)}
    sides = [_chat(side.messages, row.tools) for side in row.sides]
    prompt = {"prompt": _chat(row.prompt, row.tools)}
    if row.kind == "pairs":
        return prompt | {"chosen": sides[0], "rejected": sides[1]}
    return prompt | {"completion": sides[0], "label": row.label == "desirable"}


def tools_text(tools: Tools) -> str | None:
    """Return none as none: templates ask whether tools were given, and an empty list is given."""
    return json.dumps(list(tools)) if tools else None


def _chat(messages: Conversation, tools: Tools) -> list[dict[str, Any]]:
    return [template_message(message, structured=bool(tools)) for message in messages]
