"""Jobs, the weekly schedule and the sensor that goes on; schedule and sensor are off until switched on."""

from collections.abc import Iterator

import dagster as dg

from assets.adapter import lora_adapter
from assets.benchmark import toolwoz_benchmark
from assets.cold_start import cold_start
from assets.corpus import multiwoz_dialogues
from assets.evaluation import benchmark_evaluation
from assets.goals import toolwoz_goals
from assets.labels import reward_labels
from assets.partitions import ITERATIONS
from assets.policy import policy
from assets.preferences import preference_pairs
from assets.promotion import promotion
from assets.rollouts import beam_rollouts
from josh_pipeline.stages.step import BASELINE

MOST_ITERATIONS = 10
"""The sensor stops here: beyond a few rounds nobody has shown that the loop still gains."""

PREPARATION = [multiwoz_dialogues, toolwoz_goals, cold_start]
BASELINE_CHAIN = [policy, benchmark_evaluation, promotion]
CHAIN = [
    policy, beam_rollouts, reward_labels, preference_pairs, lora_adapter, benchmark_evaluation, promotion,
]  # fmt: skip

prepare = dg.define_asset_job(
    "prepare", selection=PREPARATION, description="Corpus, goals and base: once a corpus and model."
)
baseline = dg.define_asset_job(
    "baseline",
    selection=BASELINE_CHAIN,
    description="Evaluates the base in partition 000: the 'before' of iteration 001.",
)
iteration = dg.define_asset_job(
    "iteration",
    selection=CHAIN,
    description="One whole iteration: rollouts, harvest, training, evaluation, promotion.",
)
whole_goals = dg.define_asset_job(
    "whole_goals",
    selection=[toolwoz_benchmark],
    description="The policy that stands after an iteration on whole goals: a ToolWOZ score.",
)


@dg.schedule(
    job=iteration,
    cron_schedule="0 3 * * 1",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Mondays at 03:00: the newest iteration, which goes on from the last promotion.",
)
def weekly_retraining(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Request the newest iteration."""
    keys = sorted(context.instance.get_dynamic_partitions(str(ITERATIONS.name)))
    if not keys or keys[-1] == BASELINE:
        return dg.SkipReason("No iteration is open yet: run `josh iterate` once, or the job baseline on 000.")
    tick = context.scheduled_execution_time.date().isoformat()
    return dg.RunRequest(partition_key=keys[-1], run_key=f"weekly-{keys[-1]}-{tick}")


@dg.asset_sensor(
    asset_key=dg.AssetKey("promotion"),
    job=iteration,
    default_status=dg.DefaultSensorStatus.STOPPED,
    minimum_interval_seconds=30,
    description=f"After a promotion, runs the iteration that it opened, up to iteration {MOST_ITERATIONS}.",
)
def next_round(
    context: dg.SensorEvaluationContext, asset_event: dg.EventLogEntry
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Request the iteration after a promoted one."""
    materialization = asset_event.asset_materialization
    if materialization is None:
        raise ValueError("An asset sensor saw an event that is no materialization.")
    if not materialization.metadata["promoted"].value:
        yield dg.SkipReason(f"Iteration {materialization.partition} was not promoted.")
        return
    following = str(materialization.metadata["next iteration"].value)
    if int(following) > MOST_ITERATIONS:
        yield dg.SkipReason(f"{MOST_ITERATIONS} iterations are done: start more with `josh iterate`.")
        return
    yield dg.RunRequest(partition_key=following, run_key=f"round-{following}-{asset_event.run_id}")
