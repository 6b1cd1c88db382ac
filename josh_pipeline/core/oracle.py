"""What the calls that solve a task get of it."""

from dataclasses import dataclass

from josh_pipeline.core.environment import Environment, T
from josh_pipeline.core.errors import at_fault
from josh_pipeline.core.world import called, judged


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
    """Make the oracle's calls, each in a turn of its own; None for an excluded task, and where there is no oracle.

    Raises:
        UserError: the environment's code breaks on them, or gives no reward.
    """
    with at_fault(f"The oracle of task {task.goal_id}"):
        return _solved(environment, task)


def _solved(environment: Environment[T], task: T) -> Solved | None:
    calls = environment.oracle(task) if task.excluded is None else None
    if calls is None:
        return None
    world = environment.world(task)
    for call in calls:
        called(world, call.tool, call.parameters)
        world.hand_over()  # only here may tools change, and milestones be earned without a call
    if not calls:
        world.hand_over()
    earned = world.milestones()
    missed = tuple(call.tool for place, call in enumerate(task.calls) if place not in earned)
    return Solved(judged(world, ()), missed)
