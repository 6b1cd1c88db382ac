"""Whether a task can be solved: its oracle's calls, made in a fresh world."""

from dataclasses import dataclass

from josh_pipeline.core.environment import Environment, T


@dataclass(frozen=True)
class Solved:
    """What an oracle got of a task.

    Attributes:
        reward: the world's outcome.
        missed: tools of the wanted calls that were not earned.
    """

    reward: float
    missed: tuple[str, ...]

    @property
    def solvable(self) -> bool:
        """The full reward."""
        return self.reward == 1.0


def solved_by_oracle(environment: Environment[T], task: T) -> Solved | None:
    """Make the oracle's calls; None for an excluded task, and where there is no oracle."""
    calls = environment.oracle(task) if task.excluded is None else None
    if calls is None:
        return None
    world = environment.world(task)
    for call in calls:
        world.call(call.tool, call.parameters)
    world.hand_over()
    earned = world.milestones()
    missed = tuple(call.tool for place, call in enumerate(task.calls) if place not in earned)
    return Solved(world.outcome(()), missed)
