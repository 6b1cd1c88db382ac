"""What an evaluation lost, out of the store."""

from josh_pipeline.core.environment import Role
from josh_pipeline.core.errors import UserError
from josh_pipeline.evaluation.failures import failure_of
from josh_pipeline.report.data import LostGoals
from josh_pipeline.report.lines import Attempt, Line
from josh_pipeline.settings import Settings
from josh_pipeline.stages.environment import stored_environment, stored_tasks
from josh_pipeline.stages.playing import stored_episodes
from josh_pipeline.store.warehouse import Warehouse


def lost_goals(
    warehouse: Warehouse, line: Line, attempt: Attempt, settings: Settings, role: Role = "test"
) -> LostGoals:
    """Return what the candidate of an attempt lost in its evaluation, or the base in a baseline.

    Args:
        settings: of the line's environment.

    Raises:
        UserError: it played no goals of that role.
    """
    row = attempt.policy
    environment = stored_environment(warehouse, settings.environment, row.corpus_scope, sources=False)
    ids = warehouse.query(
        "SELECT episode_id FROM evaluation_episodes "
        "WHERE iteration = ? AND generation = ? AND side = 'after' AND role = ? ORDER BY episode_id",
        [row.iteration, attempt.evaluation, role],
    )["episode_id"].to_list()
    if not ids:
        raise UserError(f"Iteration {row.iteration} played no goals of role {role}: take test or val.")
    episodes = stored_episodes(warehouse, ids)
    names = [episode.goal_id for episode in episodes]
    tasks = stored_tasks(warehouse, row.goals_scope, of=environment.Task, ids=names)
    goals = {goal.goal_id: goal for goal in tasks}
    lost = sorted((one for one in episodes if not one.success), key=lambda one: (one.goal_id, one.trial))
    failures = tuple(failure_of(environment, goals[one.goal_id], one) for one in lost)
    return LostGoals(line.name_of(attempt.candidate), role, len(episodes), failures)
