"""How many goals the agenda user lets anybody solve: the careful scripted agent's success."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from josh_pipeline.dialogue.demonstrations import scripted_talk
from josh_pipeline.dialogue.oracle import Carelessness
from josh_pipeline.toolwoz.goal import Goal
from josh_pipeline.world import World


@dataclass(frozen=True)
class Ceiling:
    """What the careful scripted agent reached.

    Attributes:
        n: goals played.
        full_reward: goals with reward 1.
        share: ``full_reward / n``; 0.0 where there is no goal.
        failures: ids of the other goals, in order.
    """

    n: int
    full_reward: int
    share: float
    failures: tuple[str, ...]


async def user_ceiling(
    goals: Sequence[Goal],
    world_of: Callable[[Goal], World],
    seed_of: Callable[[Goal], int],
    *,
    max_turns: int,
    max_messages: int,
    max_requests: int,
) -> Ceiling:
    """Play every goal once with an agent that understands the user perfectly.

    Args:
        world_of: makes a fresh world of a goal.
        seed_of: with the goal it fixes the user.
        max_turns: the user gives up after this many messages.
        max_messages, max_requests: of a conversation, and of one agent turn.
    """
    failures = []
    for goal in goals:
        world = world_of(goal)
        talk = await scripted_talk(
            goal,
            world,
            Carelessness(),
            seed_of(goal),
            max_turns,
            max_messages=max_messages,
            max_requests=max_requests,
        )
        if world.outcome(talk.messages) < 1.0:
            failures.append(goal.goal_id)
    solved = len(goals) - len(failures)
    return Ceiling(len(goals), solved, solved / len(goals) if goals else 0.0, tuple(failures))
