"""Training rows, of one form for all methods: named by their content, linked to the nodes they came from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

from josh_pipeline.core.content import content_id
from josh_pipeline.core.messages import Conversation, Message
from josh_pipeline.search.codec import Flat, Record

Kind = Literal["conversations", "messages", "pairs", "samples"]
"""What a method learns from: golden conversations, single labelled messages, pairs after one prompt, or single
messages as they were sampled, with how they fared."""
SideLabel = Literal["desirable", "undesirable"]
RowLabel = Literal["golden conversation", "desirable", "undesirable", "pair"]
Part = Literal["completion", "chosen", "rejected"]
Tools = tuple[Mapping[str, Any], ...]


def message_key(message: Message) -> list[Any]:
    """Return what training sees of a message: two messages with equal keys are the same text."""
    return [message.role, message.content, [[call.name, dict(call.arguments)] for call in message.tool_calls]]


def prompt_id(tools: Tools, messages: Sequence[Message]) -> str:
    """Return the content hash of a prompt: tool schemas and messages, system message first."""
    return content_id([dict(tool) for tool in tools], [message_key(message) for message in messages])


@dataclass(frozen=True)
class Provenance:
    """Where a row came from first; ``Origin`` names all of its nodes."""

    goal_id: str
    rollout_id: str
    policy_digest: str


@dataclass(frozen=True)
class Said:
    """A message of a side.

    Attributes:
        message: as it stands in the conversation.
        train: it carries loss; an assistant's message.
        token_ids: as sampled, end-of-turn token included: what is trained; None for what was not sampled, or
            where the endpoint gave none.
        prompt_digest: content hash of the token ids that it was sampled after; None where they are not known.
    """

    message: Message
    train: bool = False
    token_ids: tuple[int, ...] | None = None
    prompt_digest: str | None = None

    @property
    def retokenised(self) -> bool:
        """Whether the chat template has to write what is trained, for nothing was sampled."""
        return self.train and self.token_ids is None


@dataclass(frozen=True)
class Sample:
    """How a message was sampled and how it fared: see ``harvest/segments.py``.

    Attributes:
        logprobs: of its token ids, at the temperature, when they were sampled.
        temperature: they were sampled at.
        advantage: over its segment, the mean over the leaves below it; positive where they did better.
        deviation: of the returns of the segment's leaves.
        leaves: of its segment below it; so often it weighs.
    """

    logprobs: tuple[float, ...]
    temperature: float
    advantage: float
    deviation: float
    leaves: int


@dataclass(frozen=True)
class Side:
    """What may follow a prompt, and whether it should; ``sample`` is of rows of that kind alone."""

    said: tuple[Said, ...]
    label: SideLabel
    sample: Sample | None = None

    @property
    def messages(self) -> Conversation:
        """Its messages, in order."""
        return tuple(one.message for one in self.said)

    @property
    def key(self) -> list[Any]:
        """What training sees of its messages."""
        return [message_key(one.message) for one in self.said]


@dataclass(frozen=True)
class Row:
    """What a method learns from.

    Attributes:
        method: that it was harvested for, by its name in the settings.
        source: where it came from.
        tools: tool schemas of the chat API; empty for agents that write tools out.
        prompt: everything before the sides, system message first.
        sides: what follows it. A conversation is one side of several messages, the last one an assistant's;
            a labelled or sampled message is one side, and a pair two (the desirable one first), of one message each.
        tokens: length of its longest sequence, as training will count it; 0: not counted.
    """

    method: str
    source: Provenance
    tools: Tools
    prompt: Conversation
    sides: tuple[Side, ...]
    tokens: int = field(default=0, compare=False)

    @cached_property
    def row_id(self) -> str:
        """Content hash of method, prompt, sides, labels and loss; of a sample, of its tree and tokens too."""
        sides = [[side.label, side.key, [one.train for one in side.said]] for side in self.sides]
        drawn = (self.source.rollout_id, self.sides[0].said[0].token_ids, asdict(self.sample)) if self.sample else ()
        return content_id(self.method, self.prompt_id, sides, *drawn)

    @cached_property
    def prompt_id(self) -> str:
        """Content hash of the prompt."""
        return prompt_id(self.tools, self.prompt)

    @property
    def kind(self) -> Kind:
        """What it is."""
        if self.sample is not None:
            return "samples"
        if len(self.sides) == 2:
            return "pairs"
        return "messages" if len(self.sides[0].said) == 1 else "conversations"

    @property
    def label(self) -> RowLabel:
        """What people call it."""
        kind = self.kind
        if kind in ("messages", "samples"):
            return self.sides[0].label
        return "pair" if kind == "pairs" else "golden conversation"

    @property
    def retokenised(self) -> bool:
        """Whether any of its trained messages has no sampled tokens."""
        return any(one.retokenised for side in self.sides for one in side.said)

    @property
    def good(self) -> Side | None:
        """The desirable side, if there is one."""
        return next((side for side in self.sides if side.label == "desirable"), None)

    @property
    def bad(self) -> Side | None:
        """The undesirable side, if there is one."""
        return next((side for side in self.sides if side.label == "undesirable"), None)

    @property
    def sample(self) -> Sample | None:
        """How its message was sampled; None for rows of other kinds."""
        return self.sides[0].sample

    @property
    def rival(self) -> bool:
        """Whether it teaches only beside a desirable message after the same prompt."""
        return self.kind == "messages" and self.good is None

    def conversation(self, side: Side) -> Conversation:
        """Return the prompt and what follows it on a side."""
        return self.prompt + side.messages


@dataclass(frozen=True)
class Origin:
    """A node that a row came from.

    Attributes:
        row_id, rollout_id, node_id: the two ends.
        part: what of the row stands in the node's messages.
    """

    row_id: str
    rollout_id: str
    node_id: str
    part: Part


_ROWS = Flat(Row, without=("source",))
_SOURCES = Flat(Provenance)


def row_record(row: Row) -> Record:
    """Return a row's row of table ``preference_rows``; ``sides`` is a list of ``{"said", "label"}``."""
    named = {"row_id": row.row_id, "label": row.label}
    return named | _SOURCES.record(row.source) | _ROWS.record(row)


def row_from_record(record: Mapping[str, Any]) -> Row:
    """Rebuild a training row; further columns are ignored."""
    return _ROWS.read(record, source=_SOURCES.read(record))


def held_out(goals: Iterable[str], roles: Iterable[tuple[str, str, str]]) -> frozenset[str]:
    """Return the goals, of some, that nothing may be learned from.

    These are the goals of an evaluation role, those of a source that such a goal is from, and those that
    nobody knows.

    Args:
        goals: of trees or rows.
        roles: goal, source and role of every goal that there is.
    """
    known = list(roles)
    evaluated = {source for _, source, role in known if role != "train"}
    return frozenset(goals) - {goal for goal, source, _ in known if source not in evaluated}
