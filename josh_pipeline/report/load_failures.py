"""What an evaluation lost, out of the store."""

from dataclasses import dataclass

from josh_pipeline.core.environment import Role
from josh_pipeline.core.errors import UserError
from josh_pipeline.evaluation.failures import Failure, failure_of
from josh_pipeline.report.lines import line_of_iteration
from josh_pipeline.stages.environment import stored_environment, stored_tasks
from josh_pipeline.stages.playing import stored_episodes
from josh_pipeline.stages.stage import recorded_run, recorded_settings
from josh_pipeline.store.warehouse import Warehouse


@dataclass(frozen=True)
class LostGoals:
    """The goals that a policy lost.

    Attributes:
        policy: its name for people.
        role: of the goals.
        n: conversations held.
        failures: those without success, in the order of their goals.
    """

    policy: str
    role: Role
    n: int
    failures: tuple[Failure, ...]


def lost_goals(warehouse: Warehouse, iteration: str, role: Role = "test") -> LostGoals:
    """Return what the candidate of an iteration lost in its evaluation, or the base in a baseline.

    Raises:
        UserError: it has not been evaluated, or another release recorded its settings.
    """
    line = line_of_iteration(warehouse, iteration)
    attempt = line.standing[-1]
    settings = recorded_settings(recorded_run(warehouse, "evaluation", iteration))
    environment = stored_environment(warehouse, settings.environment, attempt.policy.corpus_scope, sources=False)
    ids = warehouse.query(
        "SELECT episode_id FROM evaluation_episodes "
        "WHERE iteration = ? AND generation = ? AND side = 'after' AND role = ? ORDER BY episode_id",
        [iteration, attempt.evaluation, role],
    )["episode_id"].to_list()
    if not ids:
        raise UserError(f"Iteration {iteration} played no goals of role {role}: take test or val.")
    episodes = stored_episodes(warehouse, ids)
    goals = {
        goal.goal_id: goal
        for goal in stored_tasks(
            warehouse, attempt.policy.goals_scope, of=environment.Task, ids=[episode.goal_id for episode in episodes]
        )
    }
    lost = sorted((one for one in episodes if not one.success), key=lambda one: (one.goal_id, one.trial))
    return LostGoals(
        policy=line.name_of(attempt.candidate),
        role=role,
        n=len(episodes),
        failures=tuple(failure_of(environment, goals[one.goal_id], one) for one in lost),
    )
