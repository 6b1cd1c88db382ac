"""The one entry point of Dagster."""

import dagster as dg

from assets.audit import audit
from assets.automation import (
    CHAIN,
    PREPARATION,
    baseline,
    iteration,
    next_round,
    prepare,
    weekly_retraining,
    whole_goals,
)
from assets.benchmark import toolwoz_benchmark
from assets.resources import josh_resource

defs = dg.Definitions(
    # So that an asset's page links to the function that makes it.
    assets=dg.with_source_code_references([*PREPARATION, *CHAIN, toolwoz_benchmark, audit]),
    jobs=[prepare, baseline, iteration, whole_goals],
    schedules=[weekly_retraining],
    sensors=[next_round],
    resources={"josh": josh_resource()},
    # One process a run: a step process costs 3 s on two cores, and steps free what they hold.
    executor=dg.in_process_executor,
)
