"""What an agent's format is, and the three of them: bare JSON (compact), native tools, and ReAct."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from josh_pipeline.core.content import content_id, json_object, storable, storable_text
from josh_pipeline.core.messages import Message, ToolCall
from josh_pipeline.core.policy import Completion
from josh_pipeline.core.world import Tool, ToolResult, World

ERROR_SENTENCE = "Sorry, something went wrong on my side."
"""Spoken where the requests of a turn were used up without speaking."""
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


COMPACT_RULES = (
    'Reply with one tool call, {"name": ..., "parameters": {...}}, or with one short sentence to the user. '
    "Search with everything the user asked for. Ask for booking details that are missing, then book."
)

COMPACT_FAULT = 'A call must be one JSON object: {"name": tool, "parameters": {name: value}}.'
COMPACT_EMPTY = "Say one short sentence, or call a tool."


class CompactAgent:
    """JSON calls or one short sentence; tools as signatures in the system prompt."""

    name = "compact"

    def __init__(self, results: Shown) -> None:
        self._shown: Shown = results

    def system(self, world: World) -> Message:
        """Return task, rules, and one signature a line."""
        tools = (f"{tool.name}({', '.join(tool.properties)})" for tool in world.tools)
        return Message(role="system", content="\n".join((f"{world.instructions} {COMPACT_RULES}", *tools)))

    def schemas(self, world: World) -> tuple[Mapping[str, Any], ...]:
        """Return nothing: the tools are in the prompt."""
        return ()

    def read(self, completion: Completion) -> Reply:
        """Read a call where the text starts with a brace, else a sentence."""
        text = storable_text(completion.text).strip()
        message = Message(role="assistant", content=text)
        if not text:
            return Reply(message=message, calls=(), speech=None, fault=COMPACT_EMPTY)
        if not text.startswith("{"):
            return Reply(message=message, calls=(), speech=text, fault=None)
        value = json_object(text)
        if (
            value is None
            or set(value) != {"name", "parameters"}
            or not isinstance(value["name"], str)
            or not isinstance(value["parameters"], dict)
        ):
            return Reply(message=message, calls=(), speech=None, fault=COMPACT_FAULT)
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


NATIVE_RULES = "Call one tool at a time, or answer the user in one or two sentences."
NATIVE_EMPTY = "The reply was empty: call a tool, or answer the user."
NATIVE_UNSTORABLE = "The arguments of the call hold characters or numbers that JSON cannot: call the tool again."


class FunctionCallingAgent:
    """Only the first tool call of a reply is kept and executed, as in the paper."""

    name = "function_calling"

    def __init__(self, results: Shown) -> None:
        self._shown: Shown = results

    def system(self, world: World) -> Message:
        """Return task and rules; the tools travel as schemas."""
        return Message(role="system", content=f"{world.instructions} {NATIVE_RULES}")

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
                return Reply(message=message, calls=(), speech=None, fault=NATIVE_UNSTORABLE)
            message = Message(role="assistant", content=text, tool_calls=(call,))
            return Reply(message=message, calls=(call,), speech=None, fault=None)
        message = Message(role="assistant", content=text)
        if not text:
            return Reply(message=message, calls=(), speech=None, fault=NATIVE_EMPTY)
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


REACT_RULES = """Write commands, each on a line of its own:
PLAN what you intend to do
APICALL {"name": tool, "parameters": {name: value}}
SPEAK what you say to the user
Every APICALL is executed and its result shown to you. SPEAK ends your turn; the user sees only that.
Tools:"""

REACT_COMMAND = re.compile(r"^[ \t]*(PLAN|APICALL|SPEAK)\b:?", re.MULTILINE)
REACT_FAULT = "Write at least one APICALL or SPEAK command, each on a line of its own."
REACT_FAULTY_CALL = 'APICALL must be followed by one JSON object: {"name": tool, "parameters": {name: value}}.'


class ReactAgent:
    """Every APICALL of a reply is executed in order; SPEAK ends the turn."""

    name = "react"

    def __init__(self, results: Shown) -> None:
        self._shown: Shown = results

    def system(self, world: World) -> Message:
        """Return task, commands, and one tool a line."""
        tools = (_line(tool) for tool in world.tools)
        return Message(role="system", content="\n".join((world.instructions, REACT_RULES, *tools)))

    def schemas(self, world: World) -> tuple[Mapping[str, Any], ...]:
        """Return nothing: the tools are in the prompt."""
        return ()

    def read(self, completion: Completion) -> Reply:
        """Read the commands up to the first SPEAK; text before the first command is a plan."""
        text = storable_text(completion.text).strip()
        silent = Message(role="assistant", content=text)
        found = list(REACT_COMMAND.finditer(text))
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
                    return Reply(message=silent, calls=(), speech=None, fault=REACT_FAULTY_CALL)
                calls.append(ToolCall(name=name, arguments=parameters))
        if not calls:
            return Reply(message=silent, calls=(), speech=None, fault=REACT_FAULT)
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


AGENTS: Mapping[str, Callable[[Shown], AgentFormat]] = {
    "compact": CompactAgent,
    "function_calling": FunctionCallingAgent,
    "react": ReactAgent,
}


def make_agent(name: str, results: Shown) -> AgentFormat:
    """Return the agent format of that name.

    Args:
        name: ``compact``, ``function_calling`` or ``react``.
        results: what the agent sees of a result.
    """
    return AGENTS[name](results)


class _Probe(World):
    """Any task: one tool with a parameter of each form that a format writes differently."""

    instructions = "Help."
    tools = (
        Tool(
            "tool",
            "A tool.",
            {
                "type": "object",
                "properties": {"a": {"type": "string"}, "b": {"enum": ["c", "d"]}, "e": {"type": "integer"}},
                "required": [],
            },
        ),
    )
    all_milestones: frozenset[int] = frozenset()

    def milestones(self) -> frozenset[int]:
        return self.all_milestones

    def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        return ToolResult(None)


def agent_digest(name: str, results: Shown) -> str:
    """Name an agent by its format and every word that the format adds to a conversation.

    Conversations under other words are never mixed. What an environment adds has a name of its own:
    ``Environment.rules_digest``.

    Args:
        name, results: of the settings.
    """
    agent = make_agent(name, results)
    told = [
        agent.system(_Probe()).content, agent.schemas(_Probe()), agent.fault("").content, ERROR_SENTENCE,
    ]  # fmt: skip
    return content_id("agent", name, results, told)
