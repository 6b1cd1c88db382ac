"""The chat API's own tool calling: schemas with the request, structured calls with the reply."""

from collections.abc import Mapping, Sequence
from typing import Any

from josh_pipeline.core.messages import Message, ToolCall
from josh_pipeline.core.policy import Completion
from josh_pipeline.core.storable import storable, storable_text
from josh_pipeline.core.world import Tool, ToolResult, World
from josh_pipeline.dialogue.agent import Reply, Shown, result_message

RULES = "Call one tool at a time, or answer the user in one or two sentences."
EMPTY = "The reply was empty: call a tool, or answer the user."
UNSTORABLE = "The arguments of the call hold characters or numbers that JSON cannot: call the tool again."


class FunctionCallingAgent:
    """Only the first tool call of a reply is kept and executed, as in the paper."""

    name = "function_calling"

    def __init__(self, results: Shown) -> None:
        self._shown: Shown = results

    def system(self, world: World) -> Message:
        """Return task and rules; the tools travel as schemas."""
        return Message(role="system", content=f"{world.instructions} {RULES}")

    def schemas(self, world: World) -> tuple[Mapping[str, Any], ...]:
        """Return one schema a tool."""
        return tuple(_schema(tool) for tool in world.tools)

    def read(self, completion: Completion) -> Reply:
        """Read the first structured call, else the text as speech."""
        text = storable_text(completion.text).strip()
        if completion.tool_calls:
            call = completion.tool_calls[0]
            if not storable([call.name, dict(call.arguments)]):
                message = Message(role="assistant", content=text)
                return Reply(message=message, calls=(), speech=None, fault=UNSTORABLE)
            message = Message(role="assistant", content=text, tool_calls=(call,))
            return Reply(message=message, calls=(call,), speech=None, fault=None)
        message = Message(role="assistant", content=text)
        if not text:
            return Reply(message=message, calls=(), speech=None, fault=EMPTY)
        return Reply(message=message, calls=(), speech=text, fault=None)

    def results(self, results: Sequence[tuple[ToolCall, ToolResult]]) -> tuple[Message, ...]:
        """Return one ``tool`` message a call."""
        return tuple(result_message(result, self._shown) for _, result in results)

    def fault(self, sentence: str) -> Message:
        """Return the complaint as a ``tool`` message."""
        return Message(role="tool", content=sentence, error=True)


def _schema(tool: Tool) -> Mapping[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}
