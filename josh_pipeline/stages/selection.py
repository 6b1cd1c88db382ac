"""Which goals are demonstrated, rolled out and evaluated. All are drawn by content hashes.

So the selection depends on the goals, the settings and the rounds before alone, a rerun meets its own goals
again, and evaluations of different iterations and seeds play the same goals.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from josh_pipeline.core.environment import Environment, Role, T
from josh_pipeline.core.ids import content_id
from josh_pipeline.stages.environment import stored_tasks
from josh_pipeline.store.warehouse import Warehouse

EVALUATION_SEED = 0
"""Users are the same in every evaluation, whatever the seed of the run: scores stay comparable."""


def drawn(goals: Sequence[T], *marks: object) -> list[T]:
    """Put goals in an order that depends on their ids and ``marks`` alone."""
    return sorted(goals, key=lambda goal: content_id("order", marks, goal.goal_id))


def played_goals(warehouse: Warehouse, scope: str, environment: Environment[T], role: Role) -> list[T]:
    """Return the usable goals of a role, of the kind that the loop plays."""
    return stored_tasks(warehouse, scope, of=environment.Task, kind=environment.played, role=role)


def demonstration_goals(
    warehouse: Warehouse, scope: str, environment: Environment[T], number: int
) -> list[T]:
    """Goals for scripted demonstrations: of role train."""
    return drawn(played_goals(warehouse, scope, environment, "train"), "demonstration")[:number]


def evaluation_goals(
    warehouse: Warehouse, scope: str, environment: Environment[T], role: Role, number: int
) -> list[T]:
    """The first ``number`` goals of a role, the same whatever the seed, unsolvable ones included."""
    return drawn(played_goals(warehouse, scope, environment, role), "evaluation")[:number]


def rollout_goals(
    warehouse: Warehouse,
    scope: str,
    environment: Environment[T],
    number: int,
    demonstrated: set[str],
    seed: int,
    played: Mapping[str, int],
) -> list[T]:
    """Goals for the rollouts of one attempt: those that its line has played least.

    They come from the training role, the unsolvable left out, in an order drawn with the seed.

    Args:
        demonstrated: sources that the cold start used; their goals are left out where enough others are.
        seed: of the run.
        played: of ``played_before``.
    """
    unsolvable = set(
        warehouse.query("SELECT goal_id FROM current_solvability WHERE scope = ? AND NOT solvable", [scope])[
            "goal_id"
        ]
    )
    goals = [
        goal
        for goal in played_goals(warehouse, scope, environment, "train")
        if goal.goal_id not in unsolvable
    ]
    fresh = [goal for goal in goals if goal.source_id not in demonstrated]
    if len(fresh) >= number:
        goals = fresh
    by_times: dict[int, list[T]] = {}
    for goal in goals:
        by_times.setdefault(played.get(goal.goal_id, 0), []).append(goal)
    ordered = [goal for times in sorted(by_times) for goal in drawn(by_times[times], "rollout", seed, times)]
    return ordered[:number]


def played_before(warehouse: Warehouse, policy: Any) -> dict[str, int]:
    """Return how many attempts of the same line before this one searched each goal.

    Args:
        policy: of the attempt, a ``PolicyRow``.
    """
    found = warehouse.rows(
        "SELECT t.goal_id, count(DISTINCT (p.iteration, p.attempt)) AS n FROM policies p "
        "JOIN generation_inputs i ON i.stage = 'rollouts' AND i.input_stage = 'policy' "
        "AND i.input_scope = p.iteration AND i.input_generation = p.generation "
        "JOIN rollouts r ON r.iteration = i.scope AND r.generation = i.generation "
        "JOIN trees t USING (rollout_id) "
        "WHERE p.line = ? AND (p.iteration, p.attempt) < (?, ?) GROUP BY 1",
        [policy.line, policy.iteration, policy.attempt],
    )
    return {one["goal_id"]: one["n"] for one in found}
