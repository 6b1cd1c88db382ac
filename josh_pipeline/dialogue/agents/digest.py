"""A name for what an agent is told, so that conversations under other words are never mixed."""

from josh_pipeline.dialogue.agents.factory import make_agent
from josh_pipeline.dialogue.agents.results import COMPACT_FIELDS, Shown
from josh_pipeline.dialogue.agents.turn import ERROR_SENTENCE
from josh_pipeline.ids import content_id
from josh_pipeline.toolwoz.goal import Goal
from josh_pipeline.toolwoz.world import ToolWozWorld

NO_GOAL = Goal(
    goal_id="", dialogue_id="", split="train", part=None, message=(), tasks=(), calls=(), excluded=None
)
"""The agent is told of tools and rules, never of the goal."""


def agent_digest(name: str, results: Shown) -> str:
    """Name an agent by its format and every word that the format adds to a conversation.

    Args:
        name, results: of the settings.

    Raises:
        UserError: no such agent.
    """
    agent = make_agent(name, results)
    world = ToolWozWorld(NO_GOAL, {}, "audited")
    fields = COMPACT_FIELDS if results == "compact" else {}
    told = [agent.system(world).content, agent.schemas(world), agent.fault("").content, ERROR_SENTENCE]
    return content_id("agent", name, results, told, fields)
