"""The interface of an agent's output format: how it is prompted and read, and what results it is shown."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from josh_pipeline.core.messages import Message, ToolCall
from josh_pipeline.core.policy import Completion
from josh_pipeline.core.world import ToolResult, World

Shown = Literal["compact", "full"]
"""What the agent sees of a result: what the environment shows in short, or all of it."""


@dataclass(frozen=True)
class Reply:
    """A completion, read.

    Attributes:
        message: the assistant's message as it enters the conversation.
        calls: the calls to execute, in order; may be empty.
        speech: what is spoken to the user, which ends the turn; None while the turn goes on.
        fault: one sentence for the agent where the reply could not be understood, else None. A faulty
            reply neither calls nor speaks; the sentence goes back to the agent as an error message.
    """

    message: Message
    calls: tuple[ToolCall, ...]
    speech: str | None
    fault: str | None


class AgentFormat(Protocol):
    """A stateless translation between conversations and what a policy reads and writes."""

    @property
    def name(self) -> str:
        """The name that settings use."""
        ...

    def system(self, world: World) -> Message:
        """Return the system message: task, tools where the format writes them out, and rules."""
        ...

    def schemas(self, world: World) -> tuple[Mapping[str, Any], ...]:
        """Return the chat API's tool schemas; empty for formats that write tools into the prompt."""
        ...

    def read(self, completion: Completion) -> Reply:
        """Read a completion. Never raises."""
        ...

    def results(self, results: Sequence[tuple[ToolCall, ToolResult]]) -> tuple[Message, ...]:
        """Return the messages that carry the results of the executed calls back to the agent."""
        ...

    def fault(self, sentence: str) -> Message:
        """Return the message that tells the agent that its reply could not be understood."""
        ...


def result_json(result: ToolResult, shown: Shown) -> str:
    """Return a tool's answer as JSON on one line; errors are shown whole."""
    told = result.payload if shown == "full" or result.error else result.brief
    return json.dumps(told, ensure_ascii=False)


def result_message(result: ToolResult, shown: Shown) -> Message:
    """Return the ``tool`` message that carries one answer."""
    return Message(role="tool", content=result_json(result, shown), error=result.error)
