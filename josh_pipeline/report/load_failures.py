"""What an evaluation lost, out of the store."""

from josh_pipeline.core.environment import Role
from josh_pipeline.core.errors import UserError
from josh_pipeline.report.data import LostGoals
from josh_pipeline.report.lines import Attempt, Line
from josh_pipeline.settings import Settings
from josh_pipeline.stages.environment import stored_environment
from josh_pipeline.stages.failures import evaluation_failures
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
    n, failures = evaluation_failures(warehouse, environment, row, (row.iteration, attempt.evaluation), role)
    if not n:
        raise UserError(f"Iteration {row.iteration} played no goals of role {role}: take test or val.")
    return LostGoals(line.name_of(attempt.candidate), role, n, failures)
