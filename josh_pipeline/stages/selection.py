"""Which goals are demonstrated, rolled out and evaluated. All are drawn by content hashes.

So the selection depends on the goals and the settings alone, a rerun meets its own goals again, and
evaluations of different iterations and seeds play the same goals.
"""

from collections.abc import Sequence

from josh_pipeline.ids import content_id
from josh_pipeline.stages.goals import GoalKind, stored_goals
from josh_pipeline.store.warehouse import Warehouse
from josh_pipeline.toolwoz.goal import Goal
from josh_pipeline.toolwoz.roles import Role


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
    turn: int,
) -> list[Goal]:
    """Goals for the rollouts of one attempt, fresh as long as there are fresh ones.

    Goals come from the training role, the unsolvable left out, in an order drawn with the seed; each
    turn takes the next ``number``, and what is left over is drawn anew when all were played.

    Args:
        demonstrated: dialogues that the cold start used; their goals are left out where enough others are.
        seed: of the run.
        turn: how many attempts of this line came before.
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
    number = min(number, len(goals))
    begin = turn * number
    chosen: dict[str, Goal] = {}
    cycle, offset = divmod(begin, len(goals)) if goals else (0, 0)
    while len(chosen) < number:
        for goal in drawn(goals, "rollout", seed, cycle)[offset:]:
            if len(chosen) < number:
                chosen.setdefault(goal.goal_id, goal)
        cycle, offset = cycle + 1, 0
    return list(chosen.values())


def evaluation_goals(warehouse: Warehouse, scope: str, kind: GoalKind, role: Role, number: int) -> list[Goal]:
    """The first ``number`` goals of a role, the same whatever the seed, unsolvable ones included."""
    return drawn(stored_goals(warehouse, scope, kind=kind, role=role), "evaluation")[:number]
