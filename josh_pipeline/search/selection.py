"""Which goals are demonstrated, searched and evaluated. All are drawn by content hashes.

So the selection depends on the goals, the settings and the rounds before alone, a rerun meets its own goals
again, and evaluations of different iterations and seeds play the same goals.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence

from josh_pipeline.core.content import content_id
from josh_pipeline.core.environment import Role, T
from josh_pipeline.core.errors import UserError

HEX_OF_A_SHARE = 13
"""Digits of an id that a float holds exactly: their share of the whole never rounds up to 1."""
EVALUATION_SEED = 0
"""Users are the same in every evaluation, whatever the seed of the run: scores stay comparable."""


def playable(tasks: Sequence[T], kind: str, role: Role) -> list[T]:
    """Return the usable tasks of a kind and role."""
    return [task for task in tasks if task.excluded is None and (task.kind, task.role) == (kind, role)]


def drawn(goals: Sequence[T], *marks: object, weight: Callable[[T], float] = lambda goal: 1.0) -> list[T]:
    """Put goals in an order that depends on their ids, ``marks`` and weights alone.

    It is that of a draw without replacement in which a goal's chance is its weight's share of what is left.
    """

    def key(goal: T) -> tuple[float, str]:
        name = content_id("order", marks, goal.goal_id)
        share = int(name[:HEX_OF_A_SHARE], 16) / 16**HEX_OF_A_SHARE
        return -math.log1p(-share) / weight(goal), name  # exponential: the least of several is drawn by weight

    return sorted(goals, key=key)


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
    goals: Sequence[T],
    number: int,
    demonstrated: Collection[str],
    seed: int,
    played: Mapping[str, int],
    missed: Mapping[str, int],
) -> list[T]:
    """Return the goals for the rollouts of one attempt: those that its line has played least.

    Args:
        goals: of role train, the unsolvable left out.
        demonstrated: sources that the cold start used; their goals are left out where enough others are.
        seed: of the run; draws their order.
        played: how many attempts of the line before this one searched each goal.
        missed: how many goals were lost by each tool: of goals that were played equally often, one that wants
            calls of such tools is so many times likelier to be drawn; empty where that shall not count.

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

    def weight(goal: T) -> float:
        return 1.0 + sum(missed.get(tool, 0) for tool in {call.tool for call in goal.calls})

    every = sorted(by_times)
    return [goal for n in every for goal in drawn(by_times[n], "rollout", seed, n, weight=weight)][:number]
