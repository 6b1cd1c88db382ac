"""Which goals are demonstrated, rolled out and evaluated. All are drawn by content hashes.

So the selection depends on the goals, the settings and the rounds before alone, a rerun meets its own goals
again, and evaluations of different iterations and seeds play the same goals.
"""

from collections.abc import Mapping, Sequence

from josh_pipeline.core.ids import content_id
from josh_pipeline.environments.toolwoz.goal import Goal
from josh_pipeline.environments.toolwoz.roles import Role
from josh_pipeline.stages.goals import GoalKind, stored_goals
from josh_pipeline.stages.policy import PolicyRow
from josh_pipeline.store.warehouse import Warehouse


def drawn(goals: Sequence[Goal], *marks: object) -> list[Goal]:
    """Put goals in an order that depends on their ids and ``marks`` alone."""
    return sorted(goals, key=lambda goal: content_id("order", marks, goal.goal_id))


def demonstration_goals(warehouse: Warehouse, scope: str, kind: GoalKind, number: int) -> list[Goal]:
    """Goals for scripted demonstrations: of role train, one dialogue after the other."""
    return drawn(stored_goals(warehouse, scope, kind=kind, role="train"), "demonstration")[:number]


def rollout_goals(
    warehouse: Warehouse,
    scope: str,
    kind: GoalKind,
    number: int,
    demonstrated: set[str],
    seed: int,
    played: Mapping[str, int],
) -> list[Goal]:
    """Goals for the rollouts of one attempt: those that its line has played least.

    They come from the training role, the unsolvable left out, in an order drawn with the seed.

    Args:
        demonstrated: dialogues that the cold start used; their goals are left out where enough others are.
        seed: of the run.
        played: of ``played_before``.
    """
    goals = stored_goals(warehouse, scope, kind=kind, role="train")
    unsolvable = set(
        warehouse.query("SELECT goal_id FROM current_solvability WHERE scope = ? AND NOT solvable", [scope])[
            "goal_id"
        ]
    )
    goals = [goal for goal in goals if goal.goal_id not in unsolvable]
    fresh = [goal for goal in goals if goal.dialogue_id not in demonstrated]
    if len(fresh) >= number:
        goals = fresh
    by_times: dict[int, list[Goal]] = {}
    for goal in goals:
        by_times.setdefault(played.get(goal.goal_id, 0), []).append(goal)
    ordered = [goal for times in sorted(by_times) for goal in drawn(by_times[times], "rollout", seed, times)]
    return ordered[:number]


def played_before(warehouse: Warehouse, row: PolicyRow) -> dict[str, int]:
    """Return how many attempts of the same line before this one searched each goal."""
    found = warehouse.rows(
        "SELECT t.goal_id, count(DISTINCT (p.iteration, p.attempt)) AS n FROM policies p "
        "JOIN generation_inputs i ON i.stage = 'rollouts' AND i.input_stage = 'policy' "
        "AND i.input_scope = p.iteration AND i.input_generation = p.generation "
        "JOIN rollouts r ON r.iteration = i.scope AND r.generation = i.generation "
        "JOIN trees t USING (rollout_id) "
        "WHERE p.line = ? AND (p.iteration, p.attempt) < (?, ?) GROUP BY 1",
        [row.line, row.iteration, row.attempt],
    )
    return {one["goal_id"]: one["n"] for one in found}


def evaluation_goals(warehouse: Warehouse, scope: str, kind: GoalKind, role: Role, number: int) -> list[Goal]:
    """The first ``number`` goals of a role, the same whatever the seed, unsolvable ones included."""
    return drawn(stored_goals(warehouse, scope, kind=kind, role=role), "evaluation")[:number]
