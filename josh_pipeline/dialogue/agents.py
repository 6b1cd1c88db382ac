"""What an agent's format is, and the three of them: bare JSON (compact), native tools, and ReAct."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

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
    calls: tuple[ToolCall, ...] = ()
    speech: str | None = None
    fault: str | None = None


class AgentFormat(ABC):
    """A stateless translation between conversations and what a policy reads and writes.

    Args:
        results: what the agent sees of a result.
    """

    def __init__(self, results: Shown) -> None:
        self._shown: Shown = results

    @abstractmethod
    def system(self, world: World) -> Message:
        """Return the system message: task, tools where the format writes them out, and rules."""

    def schemas(self, world: World) -> tuple[Mapping[str, Any], ...]:
        """Return the chat API's tool schemas; empty for formats that write tools into the prompt."""
        return ()

    @abstractmethod
    def read(self, completion: Completion) -> Reply:
        """Read a completion. Never raises."""

    def results(self, results: Sequence[tuple[ToolCall, ToolResult]]) -> tuple[Message, ...]:
        """Return the messages that carry the results of the executed calls back to the agent: one a call."""
        return tuple(Message("tool", self.shown(result), error=result.error) for _, result in results)

    def shown(self, result: ToolResult) -> str:
        """Return a tool's answer as JSON on one line; errors are shown whole."""
        told = result.payload if self._shown == "full" or result.error else result.brief
        return json.dumps(told, ensure_ascii=False)

    def fault(self, sentence: str) -> Message:
        """Return the message that tells the agent that its reply could not be understood."""
        return Message("tool", sentence, error=True)


COMPACT_RULES = (
    'Reply with one tool call, {"name": ..., "parameters": {...}}, or with one short sentence to the user. '
    "Search with everything the user asked for. Ask for booking details that are missing, then book."
)

COMPACT_FAULT = 'A call must be one JSON object: {"name": tool, "parameters": {name: value}}.'
COMPACT_EMPTY = "Say one short sentence, or call a tool."


class CompactAgent(AgentFormat):
    """JSON calls or one short sentence; tools as signatures in the system prompt."""

    def system(self, world: World) -> Message:
        """Return task, rules, and one signature a line."""
        tools = (f"{tool.name}({', '.join(tool.properties)})" for tool in world.tools)
        return Message("system", "\n".join((f"{world.instructions} {COMPACT_RULES}", *tools)))

    def read(self, completion: Completion) -> Reply:
        """Read a call where the text starts with a brace, else a sentence."""
        text = storable_text(completion.text).strip()
        message = Message("assistant", text)
        if not text:
            return Reply(message, fault=COMPACT_EMPTY)
        if not text.startswith("{"):
            return Reply(message, speech=text)
        match json_object(text):
            case {"name": str(name), "parameters": dict(parameters), **others} if not others:
                return _calling(text, ToolCall(name, parameters))
        return Reply(message, fault=COMPACT_FAULT)

    def fault(self, sentence: str) -> Message:
        """Return the complaint as a ``tool`` message in the shape of an error result."""
        return Message("tool", json.dumps({"error": sentence}, ensure_ascii=False), error=True)


def _calling(text: str, *calls: ToolCall) -> Reply:
    return Reply(Message("assistant", text, calls), calls)


NATIVE_RULES = "Call one tool at a time, or answer the user in one or two sentences."
NATIVE_EMPTY = "The reply was empty: call a tool, or answer the user."
NATIVE_UNSTORABLE = "The arguments of the call hold characters or numbers that JSON cannot: call the tool again."


class FunctionCallingAgent(AgentFormat):
    """Only the first tool call of a reply is kept and executed, as in the paper."""

    def system(self, world: World) -> Message:
        """Return task and rules; the tools travel as schemas."""
        return Message("system", f"{world.instructions} {NATIVE_RULES}")

    def schemas(self, world: World) -> tuple[Mapping[str, Any], ...]:
        """Return one schema a tool."""
        functions = ({"name": t.name, "description": t.description, "parameters": t.parameters} for t in world.tools)
        return tuple({"type": "function", "function": function} for function in functions)

    def read(self, completion: Completion) -> Reply:
        """Read the first structured call, else the text as speech."""
        text = storable_text(completion.text).strip()
        message = Message("assistant", text)
        if not completion.tool_calls:
            return Reply(message, speech=text) if text else Reply(message, fault=NATIVE_EMPTY)
        call = completion.tool_calls[0]
        if not storable([call.name, dict(call.arguments)]):
            return Reply(message, fault=NATIVE_UNSTORABLE)
        return _calling(text, call)


REACT_RULES = """Write commands, each on a line of its own:
PLAN what you intend to do
APICALL {"name": tool, "parameters": {name: value}}
SPEAK what you say to the user
Every APICALL is executed and its result shown to you. SPEAK ends your turn; the user sees only that.
Tools:"""

REACT_COMMAND = re.compile(r"^[ \t]*(PLAN|APICALL|SPEAK)\b:?", re.MULTILINE)
REACT_FAULT = "Write at least one APICALL or SPEAK command, each on a line of its own."
REACT_FAULTY_CALL = 'APICALL must be followed by one JSON object: {"name": tool, "parameters": {name: value}}.'


class ReactAgent(AgentFormat):
    """Every APICALL of a reply is executed in order; SPEAK ends the turn."""

    def system(self, world: World) -> Message:
        """Return task, commands, and one tool a line."""
        tools = (_line(tool) for tool in world.tools)
        return Message("system", "\n".join((world.instructions, REACT_RULES, *tools)))

    def read(self, completion: Completion) -> Reply:
        """Read the commands up to the first SPEAK; text before the first command is a plan."""
        text = storable_text(completion.text).strip()
        silent = Message("assistant", text)
        found = list(REACT_COMMAND.finditer(text))
        ends = [match.start() for match in found[1:]] + [len(text)]
        calls: list[ToolCall] = []
        for match, end in zip(found, ends, strict=False):
            body = text[match.end() : end].strip()
            if match.group(1) == "SPEAK" and body:
                return Reply(Message("assistant", text, tuple(calls), spoken=body), tuple(calls), speech=body)
            if match.group(1) == "APICALL":
                match json_object(body):
                    case {"name": str(name), "parameters": dict(parameters)}:
                        calls.append(ToolCall(name, parameters))
                    case _:
                        return Reply(silent, fault=REACT_FAULTY_CALL)
        return _calling(text, *calls) if calls else Reply(silent, fault=REACT_FAULT)

    def results(self, results: Sequence[tuple[ToolCall, ToolResult]]) -> tuple[Message, ...]:
        """Return one message with a line a call."""
        lines = (f"{call.name}: {self.shown(result)}" for call, result in results)
        return (Message("tool", "\n".join(lines), error=any(result.error for _, result in results)),)


def _line(tool: Tool) -> str:
    return f"{tool.name}({', '.join(_parameter(*one) for one in tool.properties.items())}): {tool.description}"


def _parameter(name: str, schema: Mapping[str, Any]) -> str:
    """Name a parameter; its values or its type too, unless it is any text."""
    if "enum" in schema:
        return f"{name}: {' | '.join(map(str, schema['enum']))}"
    kind = schema.get("type", "string")
    return name if kind == "string" else f"{name}: {kind}"


AGENTS: Mapping[str, type[AgentFormat]] = {
    "compact": CompactAgent, "function_calling": FunctionCallingAgent, "react": ReactAgent
}  # fmt: skip


def make_agent(name: str, results: Shown) -> AgentFormat:
    """Return the agent format of that name.

    Args:
        name: ``compact``, ``function_calling`` or ``react``.
        results: what the agent sees of a result.
    """
    return AGENTS[name](results)


class _Probe(World):
    """Any task: one tool with a parameter of each form that a format writes differently."""

    _forms: ClassVar = {"a": {"type": "string"}, "b": {"enum": ["c", "d"]}, "e": {"type": "integer"}}
    instructions = "Help."
    tools = (Tool("tool", "A tool.", {"type": "object", "properties": _forms, "required": []}),)
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
    told = [agent.system(_Probe()).content, agent.schemas(_Probe()), agent.fault("").content, ERROR_SENTENCE]
    return content_id("agent", name, results, told)
