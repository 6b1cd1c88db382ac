"""Jobs, the weekly schedule and the sensor that goes on; schedule and sensor are off until switched on."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from assets.factory import ITERATIONS
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.stages import benchmark, promotion
from josh_pipeline.stages.policy import coming_iteration
from josh_pipeline.stages.registry import LOOP, PREPARATION, open_home
from josh_pipeline.stages.stage import BASELINE_ASSET, Stage, Step


def _job(name: str, assets: Iterable[str], description: str) -> UnresolvedAssetJobDefinition:
    return dg.define_asset_job(name, selection=dg.AssetSelection.assets(*assets), description=description)


def _assets(stages: Iterable[Stage]) -> list[str]:
    return [stage.asset for stage in stages]


iteration = _job("iteration", _assets(LOOP), "One whole iteration: rollouts, harvest, training, evaluation, promotion.")
JOBS = [
    _job("prepare", _assets(PREPARATION), "Environment, goals and base: once an environment and model."),
    _job("baseline", [BASELINE_ASSET], "Evaluates the base: the 'before' of the first iteration that goes on from it."),
    iteration,
    _job(
        "whole_goals",
        [benchmark.STAGE.asset],
        "The policy that stands after an iteration on the goals that published scores are of.",
    ),
]

MONDAY_MORNING = "0 3 * * 1"
DAY = timedelta(hours=24)
UNFINISHED = [dg.DagsterRunStatus[name] for name in ("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING")]


def under_way(instance: dg.DagsterInstance, key: str) -> str | None:
    """Return a sentence about a run of an iteration that has not ended; None where there is none."""
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED, tags={"dagster/partition": key}), limit=1)
    if not runs:
        return None
    return f"Iteration {key} is under way: run {runs[0].run_id[:8]} is {runs[0].status.value.lower()}."


def retraining(cron: str) -> dg.ScheduleDefinition:
    """Return the schedule, which asks for the iteration that ``josh iterate`` would run next."""

    @dg.schedule(
        name="weekly_retraining",
        job=iteration,
        cron_schedule=cron,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Mondays at 03:00, once switched on: the iteration that `josh iterate` would run next, "
        "with the settings of the home's last run. That is the one after the last promotion, or a new "
        "attempt at one that was refused or is unfinished. A tick that asks for nothing says why.",
    )
    def weekly_retraining(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        home = open_home()
        try:
            step = Step(home, home.warehouse(), home.settings(), "", SilentProgress())
            key, is_baseline = coming_iteration(step)
        except UserError as fault:
            return dg.SkipReason(str(fault))
        if is_baseline:
            return dg.SkipReason("The base has not been evaluated: run the job baseline once, or josh iterate.")
        if busy := under_way(context.instance, key):
            return dg.SkipReason(busy)
        context.instance.add_dynamic_partitions(str(ITERATIONS.name), [key])
        tick = context.scheduled_execution_time.strftime("%Y-%m-%dT%H:%M")
        return dg.RunRequest(partition_key=key, run_key=f"weekly-{key}-{tick}")

    return weekly_retraining


weekly_retraining = retraining(MONDAY_MORNING)


@dg.sensor(
    job=iteration,
    default_status=dg.DefaultSensorStatus.STOPPED,
    minimum_interval_seconds=30,
    description="Once switched on: after a promotion, runs the iteration that goes on from it, and so on while "
    "the gate passes. It stops at iteration automation.max_iteration, and rests while its runs of the last 24 "
    "hours took automation.hours_a_day hours (settings of the home's last run). What it waits for is the "
    "skip reason of its last tick.",
)
def next_round(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Request the iteration after the last promotion."""
    found = [
        context.instance.get_latest_materialization_event(dg.AssetKey(asset))
        for asset in (BASELINE_ASSET, promotion.STAGE.asset)
    ]
    event = max((one for one in found if one is not None), key=lambda one: one.timestamp, default=None)
    if event is None or event.asset_materialization is None:
        return dg.SkipReason("Nothing has been promoted yet: run josh iterate once, or the jobs prepare and baseline.")
    done = event.asset_materialization
    promoted = f"Iteration {done.partition}" if done.partition else "The base"
    if not done.metadata["promoted"].value:
        return dg.SkipReason(
            f"Iteration {done.partition} was not promoted. {done.metadata['reason'].value} "
            "Run it again for a new attempt; this goes on after a promotion."
        )
    following = str(done.metadata["next iteration"].value)
    limits = open_home().settings().automation
    if int(following) > limits.max_iteration:
        return dg.SkipReason(
            f"{promoted} was promoted, and automation.max_iteration is "
            f"{limits.max_iteration}: raise it, or run {following} with josh iterate."
        )
    if busy := under_way(context.instance, following):
        return dg.SkipReason(f"{busy} This goes on after its promotion.")
    run_key = f"round-{following}-{event.run_id}"
    asked = context.instance.get_runs(dg.RunsFilter(tags={"dagster/run_key": run_key}), limit=1)
    if asked:
        return dg.SkipReason(
            f"Iteration {following} was asked for once, and run {asked[0].run_id[:8]} ended as "
            f"{asked[0].status.value.lower()} without a promotion: mend what it says and run it again."
        )
    hours = hours_used(context.instance, datetime.now(UTC))
    if hours >= limits.hours_a_day:
        return dg.SkipReason(
            f"Iteration {following} is next, but this sensor's runs took {hours:.1f} hours of the last 24, "
            f"and automation.hours_a_day is {limits.hours_a_day:g}: it goes on by itself when they are fewer."
        )
    context.instance.add_dynamic_partitions(str(ITERATIONS.name), [following])
    return dg.RunRequest(partition_key=following, run_key=run_key)


def hours_used(instance: dg.DagsterInstance, now: datetime) -> float:
    """Return how long the sensor's runs were running within the last 24 hours."""
    since = now - DAY
    records = instance.get_run_records(dg.RunsFilter(tags={"dagster/sensor_name": "next_round"}, updated_after=since))
    began = since.timestamp()
    seconds = [
        (record.end_time or now.timestamp()) - max(record.start_time, began)
        for record in records
        if record.start_time is not None
    ]
    return sum(seconds) / 3600
