"""Where a home stands: what is prepared, and which iteration comes next."""

from josh_pipeline.stages.policy import line_of, next_iteration, predecessor
from josh_pipeline.stages.scopes import base_scope, corpus_scope, goals_scope
from josh_pipeline.stages.step import Step


def missing_preparation(step: Step) -> list[str]:
    """Return the assets to be materialized before iterations of these settings, in order."""
    settings = step.settings
    wanted = [
        ("corpus", corpus_scope(settings.corpus), "multiwoz_dialogues"),
        ("goals", goals_scope(settings), "toolwoz_goals"),
        ("cold_start", base_scope(settings), "cold_start"),
    ]
    return [asset for stage, scope, asset in wanted if step.warehouse.current(stage, scope) is None]


def coming_iteration(step: Step) -> tuple[str, bool]:
    """Return the iteration that comes next, and whether it is the baseline of its line.

    Raises:
        UserError: the base has not been made.
    """
    line = line_of(step)
    key = next_iteration(step.warehouse, line)
    return key, predecessor(step.warehouse, key, line) is None


def promoted(step: Step, iteration: str) -> tuple[bool, str]:
    """Return whether an iteration's candidate was promoted, and the reason."""
    row = step.warehouse.rows("SELECT * FROM current_promotions WHERE iteration = ?", [iteration])[0]
    return row["promoted"], row["reason"]
