"""Scripted conversations that teach a small model the format, with errors put in on purpose.

The errors (see ``Carelessness``) leave something for the reward to filter: a model trained on clean
demonstrations errs in format and copying, which a search can hardly mend. Whoever shows numbers of a
model started this way says that the carelessness was injected.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from josh_pipeline.dialogue.agents.compact import CompactAgent
from josh_pipeline.dialogue.conversation import Talk, converse
from josh_pipeline.dialogue.messages import Conversation
from josh_pipeline.dialogue.oracle import Carelessness, OracleAgent
from josh_pipeline.dialogue.users.agenda import AgendaUser
from josh_pipeline.ids import derived_seed
from josh_pipeline.policies.policy import Sampling
from josh_pipeline.settings import ColdStartSettings
from josh_pipeline.toolwoz.goal import Goal
from josh_pipeline.world import World

MAX_REQUESTS = 3
SAMPLING = Sampling(temperature=0.0, max_tokens=256)
"""The scripted agent ignores it."""


@dataclass(frozen=True)
class Demonstration:
    """One scripted conversation.

    Attributes:
        goal_id, dialogue_id: what it is about.
        conversation: the compact agent's system message, then everything that was said and called.
        reward: in [0, 1]; about half of the careless conversations reach 1.
    """

    goal_id: str
    dialogue_id: str
    conversation: Conversation
    reward: float


async def demonstrate(
    goals: Sequence[Goal],
    world_of: Callable[[Goal], World],
    settings: ColdStartSettings,
    seed: int,
    max_turns: int,
) -> list[Demonstration]:
    """Write one demonstration a goal, in the order of the goals.

    Args:
        world_of: makes a fresh world of a goal.
        settings: how careless the scripted agent is; ``conversations`` is the caller's business.
        seed: with the goal it fixes user and agent.
        max_turns: the user gives up after this many messages.
    """
    careless = Carelessness(
        claimed_bookings=settings.claimed_bookings,
        dropped_constraints=settings.dropped_constraints,
        false_no_match=settings.false_no_match,
    )
    demonstrations = []
    agent = CompactAgent("compact")
    for goal in goals:
        world = world_of(goal)
        talk = await scripted_talk(
            goal, world, careless, seed, max_turns, max_messages=2 * max_turns, max_requests=MAX_REQUESTS
        )
        demonstrations.append(
            Demonstration(
                goal_id=goal.goal_id,
                dialogue_id=goal.dialogue_id,
                conversation=(agent.system(world), *talk.messages),
                reward=world.outcome(talk.messages),
            )
        )
    return demonstrations


async def scripted_talk(
    goal: Goal,
    world: World,
    careless: Carelessness,
    seed: int,
    max_turns: int,
    *,
    max_messages: int,
    max_requests: int,
) -> Talk:
    """Let the scripted agent talk with the agenda user; ``world`` then holds what was earned."""
    user = AgendaUser(goal, seed, max_turns)
    talk = await converse(
        OracleAgent(goal, user, careless, seed),
        CompactAgent("compact"),
        user,
        world,
        sampling=SAMPLING,
        max_requests=max_requests,
        max_messages=max_messages,
        seed=lambda turn, request: derived_seed(seed, turn, request),
    )
    if talk.failure is not None:
        raise talk.failure
    return talk
