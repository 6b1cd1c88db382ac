"""Messages of a conversation, as stored once in a tree and as rendered into prompts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True)
class ToolCall:
    """A call as the agent wrote it; arguments may hold anything JSON can."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes:
        role: who wrote it.
        content: the text; of an assistant's call in a text format, the raw text that was sampled.
        tool_calls: what an assistant message calls. Text formats derive them from ``content``, and
            templates must not render them twice; see ``josh_pipeline.dialogue.agents``.
        error: the message is an error: a tool's error result, or the agent's fallback sentence.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    error: bool = False


Conversation = tuple[Message, ...]


def visible(conversation: Conversation) -> Conversation:
    """Return what the user sees: their own messages and what the agent spoke."""
    return tuple(m for m in conversation if m.role == "user" or (m.role == "assistant" and not m.tool_calls))
