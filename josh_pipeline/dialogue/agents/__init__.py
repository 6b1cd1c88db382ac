"""How an agent writes: one module a format, one interface (``base``), one turn (``turn``)."""

from josh_pipeline.dialogue.agents.factory import make_agent
from josh_pipeline.dialogue.agents.turn import Step, Turn, agent_step, agent_turn

__all__ = ["Step", "Turn", "agent_step", "agent_turn", "make_agent"]
