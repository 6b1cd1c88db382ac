"""Agents by the name that settings use, and a name for every word that they are told."""

from collections.abc import Callable, Mapping
from typing import Any

from josh_pipeline.core.ids import content_id
from josh_pipeline.core.world import Tool, ToolResult, World
from josh_pipeline.dialogue.agent import AgentFormat
from josh_pipeline.dialogue.compact import CompactAgent
from josh_pipeline.dialogue.function_calling import FunctionCallingAgent
from josh_pipeline.dialogue.react import ReactAgent
from josh_pipeline.dialogue.results import Shown
from josh_pipeline.dialogue.turn import ERROR_SENTENCE

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
