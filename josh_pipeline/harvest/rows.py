"""Training rows for SFT, KTO and DPO, each named by its content and linked to the nodes it came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from josh_pipeline.core.ids import content_id
from josh_pipeline.core.messages import Conversation, Message

Method = Literal["sft", "kto", "dpo"]
Part = Literal["completion", "chosen", "rejected"]
Tools = tuple[Mapping[str, Any], ...]


def message_key(message: Message) -> list[Any]:
    """Return what training sees of a message: two messages with equal keys are the same text."""
    return [message.role, message.content, [[call.name, dict(call.arguments)] for call in message.tool_calls]]


def prompt_id(tools: Tools, messages: Sequence[Message]) -> str:
    """Return the content hash of a prompt: tool schemas and messages, system message first."""
    return content_id([dict(tool) for tool in tools], [message_key(message) for message in messages])


@dataclass(frozen=True)
class Sampled:
    """An assistant message and the tokens that were drawn for it.

    Attributes:
        message: as it stands in the conversation.
        token_ids: as sampled, end-of-turn token included; None where the endpoint gave none. They are
            for audits and other trainers: ours tokenises whole conversations with the chat template, as
            the policy reads them again in its next turn.
    """

    message: Message
    token_ids: tuple[int, ...] | None


@dataclass(frozen=True)
class Source:
    """Where a row came from first; ``Link`` names all of its nodes."""

    goal_id: str
    rollout_id: str
    policy_digest: str


@dataclass(frozen=True)
class SftRow:
    """A conversation with the loss on chosen messages.

    Attributes:
        source: where it came from.
        tools: tool schemas of the chat API; empty for agents that write tools out.
        messages: system message first, an assistant's message last.
        train: for each message, whether it carries loss; assistant messages only.
        token_ids: for each message the sampled tokens; None for all that were not sampled.
    """

    source: Source
    tools: Tools
    messages: Conversation
    train: tuple[bool, ...]
    token_ids: tuple[tuple[int, ...] | None, ...]

    @property
    def row_id(self) -> str:
        """Content hash of conversation and loss."""
        return content_id("sft", prompt_id(self.tools, self.messages), self.train)


@dataclass(frozen=True)
class KtoRow:
    """One assistant message, desirable or not.

    Attributes:
        source: where it came from.
        tools: tool schemas of the chat API.
        prompt: everything before the message, system message first.
        completion: the message.
        desirable: its label.
    """

    source: Source
    tools: Tools
    prompt: Conversation
    completion: Sampled
    desirable: bool

    @property
    def row_id(self) -> str:
        """Content hash of prompt, completion and label."""
        key = message_key(self.completion.message)
        return content_id("kto", prompt_id(self.tools, self.prompt), key, self.desirable)


@dataclass(frozen=True)
class DpoRow:
    """A desirable and an undesirable message after the same prompt.

    Attributes:
        source: where it came from.
        tools: tool schemas of the chat API.
        prompt: everything before the messages, system message first.
        chosen, rejected: the two messages.
    """

    source: Source
    tools: Tools
    prompt: Conversation
    chosen: Sampled
    rejected: Sampled

    @property
    def row_id(self) -> str:
        """Content hash of prompt and both completions."""
        keys = message_key(self.chosen.message), message_key(self.rejected.message)
        return content_id("dpo", prompt_id(self.tools, self.prompt), *keys)


Row = SftRow | KtoRow | DpoRow


@dataclass(frozen=True)
class Link:
    """A node that a row came from.

    Attributes:
        row_id, rollout_id, node_id: the two ends.
        part: what of the row stands in the node's messages.
    """

    row_id: str
    rollout_id: str
    node_id: str
    part: Part


def method_of(row: Row) -> Method:
    """Return the training method that a row is for."""
    if isinstance(row, SftRow):
        return "sft"
    return "kto" if isinstance(row, KtoRow) else "dpo"
