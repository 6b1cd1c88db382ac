"""The compact format, for small models: a JSON call or one short sentence, and nothing else.

Prompts dominate the cost (25 prompt tokens a generated one), so the system prompt is below 90 tokens
plus a line a tool, and is the same text for all goals with the same tools: an engine's prefix cache
then works across conversations.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from josh_pipeline.core.messages import Message, ToolCall
from josh_pipeline.core.policy import Completion
from josh_pipeline.core.storable import json_object, storable_text
from josh_pipeline.core.world import ToolResult, World
from josh_pipeline.dialogue.agent import Reply, Shown, result_message

RULES = (
    'Reply with one tool call, {"name": ..., "parameters": {...}}, or with one short sentence to the user. '
    "Search with everything the user asked for. Ask for booking details that are missing, then book."
)

FAULT = 'A call must be one JSON object: {"name": tool, "parameters": {name: value}}.'
EMPTY = "Say one short sentence, or call a tool."


class CompactAgent:
    """JSON calls or one short sentence; tools as signatures in the system prompt."""

    name = "compact"

    def __init__(self, results: Shown) -> None:
        self._shown: Shown = results

    def system(self, world: World) -> Message:
        """Return task, rules, and one signature a line."""
        tools = (f"{tool.name}({', '.join(tool.properties)})" for tool in world.tools)
        return Message(role="system", content="\n".join((f"{world.instructions} {RULES}", *tools)))

    def schemas(self, world: World) -> tuple[Mapping[str, Any], ...]:
        """Return nothing: the tools are in the prompt."""
        return ()

    def read(self, completion: Completion) -> Reply:
        """Read a call where the text starts with a brace, else a sentence."""
        text = storable_text(completion.text).strip()
        message = Message(role="assistant", content=text)
        if not text:
            return Reply(message=message, calls=(), speech=None, fault=EMPTY)
        if not text.startswith("{"):
            return Reply(message=message, calls=(), speech=text, fault=None)
        value = json_object(text)
        if (
            value is None
            or set(value) != {"name", "parameters"}
            or not isinstance(value["name"], str)
            or not isinstance(value["parameters"], dict)
        ):
            return Reply(message=message, calls=(), speech=None, fault=FAULT)
        call = ToolCall(name=value["name"], arguments=value["parameters"])
        message = Message(role="assistant", content=text, tool_calls=(call,))
        return Reply(message=message, calls=(call,), speech=None, fault=None)

    def results(self, results: Sequence[tuple[ToolCall, ToolResult]]) -> tuple[Message, ...]:
        """Return one ``tool`` message a call."""
        return tuple(result_message(result, self._shown) for _, result in results)

    def fault(self, sentence: str) -> Message:
        """Return the complaint as a ``tool`` message in the shape of an error result."""
        return Message(role="tool", content=f'{{"error": {_quoted(sentence)}}}', error=True)


def _quoted(sentence: str) -> str:
    return '"' + sentence.replace("\\", "\\\\").replace('"', '\\"') + '"'
