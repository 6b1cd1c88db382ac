"""Goals out of the store, for demonstrations, rollouts and evaluations."""

from typing import Any

from josh_pipeline.core.environment import Environment, Role, T
from josh_pipeline.search import selection
from josh_pipeline.stages.environment import stored_tasks
from josh_pipeline.store.warehouse import Warehouse


def played_goals(warehouse: Warehouse, scope: str, environment: Environment[T], role: Role) -> list[T]:
    """Return the usable goals of a role, of the kind that the loop plays."""
    return stored_tasks(warehouse, scope, of=environment.Task, kind=environment.played, role=role)


def evaluation_goals(
    warehouse: Warehouse, scope: str, environment: Environment[T], role: Role, number: int
) -> list[T]:
    """Return the first ``number`` goals of a role; see ``search.selection``."""
    return selection.evaluation_goals(played_goals(warehouse, scope, environment, role), number)


def solvable_goals(warehouse: Warehouse, scope: str, environment: Environment[T]) -> list[T]:
    """Return the training goals that an oracle solves, or that nobody knows an oracle of."""
    unsolvable = set(
        warehouse.query("SELECT goal_id FROM current_solvability WHERE scope = ? AND NOT solvable", [scope])[
            "goal_id"
        ]
    )
    goals = played_goals(warehouse, scope, environment, "train")
    return [goal for goal in goals if goal.goal_id not in unsolvable]


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
