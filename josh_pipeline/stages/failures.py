"""What an evaluation lost, out of the store; and what of it the next search can be drawn by."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from josh_pipeline.core.environment import Environment, Role
from josh_pipeline.evaluation.failures import Failure, failure_of
from josh_pipeline.evaluation.gate import NOT_THE_POLICY
from josh_pipeline.stages.environment import stored_tasks
from josh_pipeline.stages.evaluation import GATE
from josh_pipeline.stages.playing import stored_episodes
from josh_pipeline.stages.policy import PolicyRow
from josh_pipeline.store.warehouse import Warehouse


def evaluation_failures(
    warehouse: Warehouse, environment: Environment[Any], policy: PolicyRow, evaluation: tuple[str, int], role: Role
) -> tuple[int, tuple[Failure, ...]]:
    """Return how many conversations an evaluation held with its candidate, and the lost ones, by goal.

    Args:
        policy: whose columns name the goals.
        evaluation: iteration and generation.
    """
    ids = warehouse.query(
        "SELECT episode_id FROM evaluation_episodes "
        "WHERE iteration = ? AND generation = ? AND side = 'after' AND role = ? ORDER BY episode_id",
        [*evaluation, role],
    )["episode_id"].to_list()
    episodes = stored_episodes(warehouse, ids)
    names = [episode.goal_id for episode in episodes]
    tasks = stored_tasks(warehouse, policy.goals_scope, of=environment.Task, ids=names)
    goals = {goal.goal_id: goal for goal in tasks}
    lost = sorted((one for one in episodes if not one.success), key=lambda one: (one.goal_id, one.trial))
    return len(episodes), tuple(failure_of(environment, goals[one.goal_id], one) for one in lost)


def missed_before(warehouse: Warehouse, environment: Environment[Any], policy: PolicyRow) -> Mapping[str, int]:
    """Count the tools that a policy missed first on the gate's goals, in the evaluation that promoted it.

    Conversations that something else than the policy broke off say nothing of it.
    """
    found = warehouse.rows(
        "SELECT e.input_scope, e.input_generation FROM generation_inputs p JOIN generation_inputs e "
        "ON e.stage = 'promotion' AND e.scope = p.input_scope AND e.generation = p.input_generation "
        "WHERE p.stage = 'policy' AND p.scope = ? AND p.generation = ? AND p.input_stage = 'promotion' "
        "AND e.input_stage = 'evaluation'",
        [policy.iteration, policy.generation],
    )[0]
    evaluation = found["input_scope"], found["input_generation"]
    _, failures = evaluation_failures(warehouse, environment, policy, evaluation, GATE)
    return Counter(one.tool for one in failures if one.tool and one.ended not in NOT_THE_POLICY)
