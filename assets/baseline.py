"""The evaluation of the base, which the first iteration of a line goes on from and is held against.

It is an asset of no stage: it runs the stages of a baseline in an iteration of their own in the store, which is none of
Dagster's, for nothing else is made in it.
"""

from typing import Any

import dagster as dg

from assets.factory import LOOP_POOL, OWNERS, check_spec, report_renewed, told
from assets.pages import judged
from assets.resources import JoshResource
from josh_pipeline.stages.policy import baseline_iteration
from josh_pipeline.stages.registry import BASELINE_LOOP, BY_NAME, PREPARATION
from josh_pipeline.stages.stage import BASELINE_ASSET

READ = {name for stage in BASELINE_LOOP for name in stage.inputs} & {stage.name for stage in PREPARATION}


@dg.asset(
    name=BASELINE_ASSET,
    group_name="environment",
    pool=LOOP_POOL,
    kinds={kind for stage in BASELINE_LOOP for kind in stage.kinds},
    owners=OWNERS,
    deps=[BY_NAME[name].asset for name in sorted(READ)],
    check_specs=[check_spec(check, BASELINE_ASSET) for stage in BASELINE_LOOP for check in stage.checks],
    description="The base on the held-out goals: the 'before' of the first iteration that goes on from it. The store "
    "keeps it as an iteration of its own, `000` for the first base of a home: rows of "
    f"{', '.join(f'`{table}`' for stage in BASELINE_LOOP for table in stage.tables)}.",
)
def base_evaluation(context: dg.AssetExecutionContext, josh: JoshResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Evaluate the base of the settings, and let it stand."""
    metadata: dict[str, Any] = {}
    checks = []
    with josh.step(context) as step:
        iteration = baseline_iteration(step)
        for stage in BASELINE_LOOP:
            done = stage.run(step, iteration)
            metadata |= told(stage, step, done, iteration)
            checks += [judged(check, done.verdicts[check.name]) for check in stage.checks]
        step.home.remember_settings(step.settings)
    report_renewed(context, done, iteration)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(done.version),
        metadata=metadata | {"iteration in the store": iteration},
        check_results=checks,
    )
