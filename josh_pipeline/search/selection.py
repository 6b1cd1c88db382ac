"""Which goals are demonstrated, searched and evaluated. All are drawn by content hashes.

So the selection depends on the goals, the settings and the rounds before alone, a rerun meets its own goals
again, and evaluations of different iterations and seeds play the same goals.
"""

from collections.abc import Collection, Mapping, Sequence

from josh_pipeline.core.content import content_id
from josh_pipeline.core.environment import Environment, Role, T
from josh_pipeline.core.errors import UserError

EVALUATION_SEED = 0
"""Users are the same in every evaluation, whatever the seed of the run: scores stay comparable."""


def playable(environment: Environment[T], tasks: Sequence[T], role: Role) -> list[T]:
    """Return the usable tasks of a role, of the kind that the loop plays."""
    return [task for task in tasks if task.excluded is None and (task.kind, task.role) == (environment.played, role)]


def drawn(goals: Sequence[T], *marks: object) -> list[T]:
    """Put goals in an order that depends on their ids and ``marks`` alone."""
    return sorted(goals, key=lambda goal: content_id("order", marks, goal.goal_id))


def demonstration_goals(goals: Sequence[T], number: int) -> list[T]:
    """Return goals for scripted demonstrations.

    Args:
        goals: of role train.
    """
    return drawn(goals, "demonstration")[:number]


def evaluation_goals(goals: Sequence[T], number: int) -> list[T]:
    """Return the first goals of a role, the same whatever the seed, unsolvable ones included."""
    return drawn(goals, "evaluation")[:number]


def rollout_goals(
    goals: Sequence[T], number: int, demonstrated: Collection[str], seed: int, played: Mapping[str, int]
) -> list[T]:
    """Return the goals for the rollouts of one attempt: those that its line has played least.

    Args:
        goals: of role train, the unsolvable left out.
        demonstrated: sources that the cold start used; their goals are left out where enough others are.
        seed: of the run; draws their order.
        played: how many attempts of the line before this one searched each goal.

    Raises:
        UserError: there is none.
    """
    if not goals:
        raise UserError(
            "No task of role train can be searched, for the oracle earns the full reward of none of them: let the "
            "environment's oracle return calls that do, or None where words decide too."
        )
    fresh = [goal for goal in goals if goal.source_id not in demonstrated]
    if len(fresh) >= number:
        goals = fresh
    by_times: dict[int, list[T]] = {}
    for goal in goals:
        by_times.setdefault(played.get(goal.goal_id, 0), []).append(goal)
    ordered = [goal for times in sorted(by_times) for goal in drawn(by_times[times], "rollout", seed, times)]
    return ordered[:number]
