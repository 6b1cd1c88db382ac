"""Agents by the name that settings use."""

from collections.abc import Callable, Mapping

from josh_pipeline.dialogue.agents.base import AgentFormat
from josh_pipeline.dialogue.agents.compact import CompactAgent
from josh_pipeline.dialogue.agents.function_calling import FunctionCallingAgent
from josh_pipeline.dialogue.agents.react import ReactAgent
from josh_pipeline.dialogue.agents.results import Shown
from josh_pipeline.errors import UserError

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

    Raises:
        UserError: no such agent.
    """
    if name not in AGENTS:
        raise UserError(f"No agent {name!r}: use one of {', '.join(AGENTS)}.")
    return AGENTS[name](results)
