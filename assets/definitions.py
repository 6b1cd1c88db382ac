"""The one entry point of Dagster."""

import dagster as dg

from assets.automation import CHAIN, PREPARATION, baseline, iteration, next_round, prepare, weekly_retraining
from assets.resources import JoshResource

defs = dg.Definitions(
    assets=[*PREPARATION, *CHAIN],
    jobs=[prepare, baseline, iteration],
    schedules=[weekly_retraining],
    sensors=[next_round],
    resources={"josh": JoshResource()},
    # One process a run: a step process costs 3 s on two cores, and steps free what they hold.
    executor=dg.in_process_executor,
)
