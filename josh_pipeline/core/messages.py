"""Messages of a conversation, as stored once in a tree and as rendered into prompts."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
        spoken: what the user hears, where that is only a part of ``content`` (ReAct); else None.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    error: bool = False
    spoken: str | None = None


Conversation = tuple[Message, ...]


def visible(conversation: Conversation) -> Conversation:
    """Return what the user sees: their own messages and what the agent spoke.

    An assistant message that calls, or that a ``tool`` message answers (a result or a complaint about
    its form), is internal, unless ``spoken`` says what was said beside it.
    """
    seen: list[Message] = []
    for message, following in zip(conversation, (*conversation[1:], None), strict=False):
        if message.role == "user":
            seen.append(message)
        elif ends_turn(message, following):
            spoken = message.content if message.spoken is None else message.spoken
            seen.append(replace(message, content=spoken, tool_calls=(), spoken=None))
    return tuple(seen)


def ends_turn(message: Message, following: Message | None) -> bool:
    """Say whether a message is an agent's speech, which ends its turn.

    Args:
        following: the message after it, if any.
    """
    silent = bool(message.tool_calls) or answered(following)
    return message.role == "assistant" and (message.spoken is not None or not silent)


def answered(following: Message | None) -> bool:
    """Say whether the message that follows an agent's is a tool's."""
    return following is not None and following.role == "tool"
