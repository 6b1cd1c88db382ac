"""Rows as tokens: the prompt that the policy saw, and exactly what it sampled after it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from josh_pipeline.core.content import content_id
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.messages import Conversation
from josh_pipeline.harvest.rows import Row, Side, prompt_id
from josh_pipeline.policies.chat import ChatRenderer

IGNORED = -100
"""The label of a token without loss, as in PyTorch's cross entropy."""


@dataclass(frozen=True)
class TokenExample:
    """One sequence of tokens.

    Attributes:
        input_ids: prompt and what follows it.
        labels: the same ids where there is loss, ``IGNORED`` elsewhere.
        cut: tokens of the prompt before the first one with loss.
    """

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]
    cut: int

    @property
    def prompt(self) -> tuple[int, ...]:
        """What the policy saw."""
        return self.input_ids[: self.cut]

    @property
    def completion(self) -> tuple[int, ...]:
        """What it answered; of a conversation all that follows its first prompt."""
        return self.input_ids[self.cut :]

    def followed_by(self, other: "TokenExample") -> "TokenExample":
        """Return this prompt with another one's completion, which has the loss."""
        return answered(self.prompt, other.completion)


def answered(prompt: Sequence[int], completion: Sequence[int]) -> TokenExample:
    """Return a prompt with its completion, which has the loss."""
    return TokenExample((*prompt, *completion), (IGNORED,) * len(prompt) + tuple(completion), len(prompt))


@dataclass(frozen=True)
class TokenRow:
    """A row as tokens.

    Attributes:
        examples: of a labelled message one, of a pair two, the chosen one first. Of a conversation one, where
            each prompt goes on from what came before it; a template that rewrites earlier messages (thoughts
            are left out once they are old) gives another one wherever it does.
    """

    row: Row
    examples: tuple[TokenExample, ...]


class RowTokenizer:
    """Turns rows into tokens; a prompt that several of them share is rendered once.

    Args:
        renderer: of the policy's base.
    """

    def __init__(self, renderer: ChatRenderer) -> None:
        self._renderer = renderer
        self._prompts: dict[str, list[int]] = {}

    def length(self, row: Row) -> int:
        """Count the tokens of a row's longest sequence."""
        return max(len(example.input_ids) for example in self.tokens(row).examples)

    def tokens(self, row: Row) -> TokenRow:
        """Tokenize a row.

        Raises:
            UserError: a prompt is not the one that its completion was sampled after, or the chat template does
                not write a message that was not sampled.
        """
        return TokenRow(row, tuple(example for side in row.sides for example in _folded(self._answers(row, side))))

    def _answers(self, row: Row, side: Side) -> Iterator[TokenExample]:
        """Yield each trained message of a side after its prompt."""
        for place, one in enumerate(side.said):
            if not one.train:
                continue
            before = row.prompt + side.messages[:place]
            if one.token_ids is None:
                yield answered(*self._renderer.answer((*before, one.message), row.tools))
                continue
            prompt = self._prompt(row, before)
            if one.prompt_digest not in (None, content_id(prompt)):
                raise UserError(
                    f"A prompt of row {row.row_id} is not the one that was answered in tree {row.source.rollout_id}: "
                    "the model's tokenizer or chat template has changed since, so put it back, or search the "
                    "iteration's goals again (materialize beam_rollouts)."
                )
            yield answered(prompt, one.token_ids)

    def _prompt(self, row: Row, messages: Conversation) -> list[int]:
        name = prompt_id(row.tools, messages)
        if name not in self._prompts:
            self._prompts[name] = self._renderer.prompt_ids(messages, row.tools)
        return self._prompts[name]


def _folded(answers: Iterator[TokenExample]) -> Iterator[TokenExample]:
    """Join each example to those that it is the beginning of."""
    whole = next(answers, None)
    for one in answers:
        length = len(whole.input_ids) if whole else 0
        if whole and one.prompt[:length] == whole.input_ids:
            whole = TokenExample(one.input_ids, whole.labels + one.labels[length:], whole.cut)
        else:
            if whole:
                yield whole
            whole = one
    if whole:
        yield whole
