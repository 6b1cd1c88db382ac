"""The ReAct format: PLAN, APICALL and SPEAK commands, one a line."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from josh_pipeline.core.messages import Message, ToolCall
from josh_pipeline.core.policy import Completion
from josh_pipeline.core.storable import json_object, storable_text
from josh_pipeline.core.world import Tool, ToolResult, World
from josh_pipeline.dialogue.agent import Reply, Shown, result_json

RULES = """Write commands, each on a line of its own:
PLAN what you intend to do
APICALL {"name": tool, "parameters": {name: value}}
SPEAK what you say to the user
Every APICALL is executed and its result shown to you. SPEAK ends your turn; the user sees only that.
Tools:"""

_COMMAND = re.compile(r"^[ \t]*(PLAN|APICALL|SPEAK)\b:?", re.MULTILINE)
FAULT = "Write at least one APICALL or SPEAK command, each on a line of its own."
FAULTY_CALL = 'APICALL must be followed by one JSON object: {"name": tool, "parameters": {name: value}}.'


class ReactAgent:
    """Every APICALL of a reply is executed in order; SPEAK ends the turn."""

    name = "react"

    def __init__(self, results: Shown) -> None:
        self._shown: Shown = results

    def system(self, world: World) -> Message:
        """Return task, commands, and one tool a line."""
        tools = (_line(tool) for tool in world.tools)
        return Message(role="system", content="\n".join((world.instructions, RULES, *tools)))

    def schemas(self, world: World) -> tuple[Mapping[str, Any], ...]:
        """Return nothing: the tools are in the prompt."""
        return ()

    def read(self, completion: Completion) -> Reply:
        """Read the commands up to the first SPEAK; text before the first command is a plan."""
        text = storable_text(completion.text).strip()
        silent = Message(role="assistant", content=text)
        found = list(_COMMAND.finditer(text))
        ends = [match.start() for match in found[1:]] + [len(text)]
        calls: list[ToolCall] = []
        for match, end in zip(found, ends, strict=False):
            body = text[match.end() : end].strip()
            if match.group(1) == "SPEAK" and body:
                message = Message(role="assistant", content=text, tool_calls=tuple(calls), spoken=body)
                return Reply(message=message, calls=tuple(calls), speech=body, fault=None)
            if match.group(1) == "APICALL":
                value = json_object(body)
                name, parameters = (value or {}).get("name"), (value or {}).get("parameters")
                if not isinstance(name, str) or not isinstance(parameters, dict):
                    return Reply(message=silent, calls=(), speech=None, fault=FAULTY_CALL)
                calls.append(ToolCall(name=name, arguments=parameters))
        if not calls:
            return Reply(message=silent, calls=(), speech=None, fault=FAULT)
        message = Message(role="assistant", content=text, tool_calls=tuple(calls))
        return Reply(message=message, calls=tuple(calls), speech=None, fault=None)

    def results(self, results: Sequence[tuple[ToolCall, ToolResult]]) -> tuple[Message, ...]:
        """Return one message with a line a call."""
        lines = (f"{call.name}: {result_json(result, self._shown)}" for call, result in results)
        failed = any(result.error for _, result in results)
        return (Message(role="tool", content="\n".join(lines), error=failed),)

    def fault(self, sentence: str) -> Message:
        """Return the complaint as a ``tool`` message."""
        return Message(role="tool", content=sentence, error=True)


def _line(tool: Tool) -> str:
    parameters = (_parameter(name, schema) for name, schema in tool.properties.items())
    return f"{tool.name}({', '.join(parameters)}): {tool.description}"


def _parameter(name: str, schema: Mapping[str, Any]) -> str:
    """Name a parameter; its values or its type too, unless it is any text."""
    if "enum" in schema:
        return f"{name}: {' | '.join(map(str, schema['enum']))}"
    kind = schema.get("type", "string")
    return name if kind == "string" else f"{name}: {kind}"
