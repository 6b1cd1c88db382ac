"""The oracle: an agent that makes each ground-truth call with exactly the goal's own parameters."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from josh_pipeline.environments.toolwoz.goal import Goal
from josh_pipeline.environments.toolwoz.world import ToolWozWorld


@dataclass(frozen=True)
class Verdict:
    """What the oracle got of one goal.

    Attributes:
        goal: the goal.
        reward: earned / all.
        missed: tools of the calls that were not earned.
    """

    goal: Goal
    reward: float
    missed: tuple[str, ...]


def play_oracle(goal: Goal, world: ToolWozWorld) -> Verdict:
    """Make every ground-truth call of a goal, in order."""
    for call in goal.calls:
        world.call(call.tool, call.parameters)
    earned = world.milestones()
    missed = tuple(call.tool for i, call in enumerate(goal.calls) if i not in earned)
    return Verdict(goal, world.outcome(()), missed)


def solvability(goals: Sequence[Goal], world: Callable[[Goal], ToolWozWorld]) -> list[Verdict]:
    """Play the oracle on every goal that is not excluded."""
    return [play_oracle(goal, world(goal)) for goal in goals if goal.excluded is None]
