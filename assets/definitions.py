"""The one entry point of Dagster."""

import warnings

import dagster as dg

from assets.automation import JOBS, next_round, schedules
from assets.baseline import base_evaluation
from assets.factory import asset_of, audit
from assets.resources import josh_resource
from josh_pipeline.core.progress import Progress
from josh_pipeline.stages.registry import STAGES

with warnings.catch_warnings():
    # Code references are in beta and partitioned checks in preview: pyproject.toml pins the release for it.
    warnings.simplefilter("ignore", dg.BetaWarning)
    warnings.simplefilter("ignore", dg.PreviewWarning)
    ASSETS = [*(asset_of(stage) for stage in STAGES), *dg.with_source_code_references([base_evaluation, audit])]


def definitions(terminal: Progress | None = None) -> dg.Definitions:
    """Return all definitions.

    Args:
        terminal: where the steps of runs in this process report beside Dagster.
    """
    return dg.Definitions(
        assets=ASSETS,
        jobs=JOBS,
        schedules=schedules(),
        sensors=[next_round],
        resources={"josh": josh_resource(terminal)},
        # One process a run: a step process costs 3 s on two cores, and steps free what they hold.
        executor=dg.in_process_executor,
    )


defs = definitions()
