"""Jobs, the schedules and the sensor that goes on; schedules and sensor are off until switched on."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from assets.factory import ITERATIONS
from josh_pipeline.core.command import home_root
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.settings import AutomationSettings, Settings
from josh_pipeline.stages import benchmark, environment, goals, promotion
from josh_pipeline.stages.policy import coming_iteration
from josh_pipeline.stages.registry import LAYOUT, LOOP, PREPARATION, open_home
from josh_pipeline.stages.stage import BASELINE_ASSET, Stage, Step
from josh_pipeline.store.home import Home


def run_config(values: dict[str, Any]) -> dict[str, Any]:
    """Return the config of a run, as the launchpad has it."""
    return {"resources": {"josh": {"config": values}}}


def offered(key: str) -> dict[str, Any]:
    """Return what the launchpad offers for an iteration: all settings of the home's last run, to be changed."""
    return run_config({"settings": open_home().settings().model_dump(mode="json", exclude={"profile"})})


def _job(name: str, assets: Iterable[str], description: str) -> UnresolvedAssetJobDefinition:
    return dg.define_asset_job(name, selection=dg.AssetSelection.assets(*assets), description=description)


def _of_iterations(name: str, stages: Iterable[Stage], description: str) -> UnresolvedAssetJobDefinition:
    config = dg.PartitionedConfig[Any](ITERATIONS, run_config_for_partition_key_fn=offered)
    selection = dg.AssetSelection.assets(*_assets(stages))
    return dg.define_asset_job(name, selection=selection, description=description, config=config)


def _assets(stages: Iterable[Stage]) -> list[str]:
    return [stage.asset for stage in stages]


SOURCE = (environment.STAGE, goals.STAGE)
"""What is read of a source, and made of that alone."""
iteration = _of_iterations(
    "iteration", LOOP, "One whole iteration: rollouts, harvest, training, evaluation, promotion."
)
retraining = _of_iterations(
    "retraining",
    [*SOURCE, *LOOP],
    "What the schedule launches: one whole iteration; and before it dialogues and goals, where the source has changed.",
)
audit = _job("whole_audit", ["audit"], "Holds the whole home to what runs wrote.")
JOBS = [
    _job("prepare", _assets(PREPARATION), "Environment, goals and base: once an environment and model."),
    _job("baseline", [BASELINE_ASSET], "Evaluates the base: the 'before' of the first iteration that goes on from it."),
    iteration,
    retraining,
    _job(
        "whole_goals",
        [benchmark.STAGE.asset],
        "The policy that stands after an iteration on the goals that published scores are of.",
    ),
    audit,
]

DAY = timedelta(hours=24)
UNFINISHED = [dg.DagsterRunStatus[name] for name in ("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING")]


def under_way(instance: dg.DagsterInstance, key: str) -> str | None:
    """Return a sentence about a run of an iteration that has not ended; None where there is none."""
    runs = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED, tags={"dagster/partition": key}), limit=1)
    if not runs:
        return None
    return f"Iteration {key} is under way: run {runs[0].run_id[:8]} is {runs[0].status.value.lower()}."


def request(
    home: Home, settings: Settings, key: str, run_key: str, stages: Iterable[Stage] | None = None, **tags: str
) -> dg.RunRequest:
    """Ask for an iteration with just these settings, whatever is run meanwhile; its tags say what they are.

    Args:
        stages: what is made of the job; None for all of it.
        tags: further ones, without their prefix.
    """
    digest = home.keep_settings(settings)
    about = {
        "profile": settings.profile,
        "model": settings.policy.model,
        "method": settings.training.method,
        "settings": digest,
    }
    return dg.RunRequest(
        partition_key=key,
        run_key=run_key,
        run_config=run_config({"profile": digest}),
        tags={f"josh/{name}": value for name, value in (about | tags).items()},
        asset_selection=None if stages is None else [dg.AssetKey(stage.asset) for stage in stages],
    )


def schedules() -> list[dg.ScheduleDefinition]:
    """Return the schedules, as the settings of the home's last run have them when this is called."""
    try:
        # Not open_home, which makes a folder: definitions are loaded where nobody wants a home, too.
        settings = Home(home_root(None), LAYOUT).settings()
        found = f"profile {settings.profile}, model {settings.policy.model}, method {settings.training.method}"
        automation, loaded = settings.automation, f"When this was loaded, these were: {found}."
    except UserError as fault:
        automation, loaded = AutomationSettings(), f"They cannot be read, and cron and zone are the defaults: {fault}"
    return [retraining_schedule(automation, loaded), audit_schedule(automation)]


TAKES_EFFECT = (
    "Cron and time zone are automation.{cron} and automation.timezone of the home's last run (settings/last.yaml in "
    "the home), and take effect when this code location is reloaded."
)


def retraining_schedule(automation: AutomationSettings, loaded: str) -> dg.ScheduleDefinition:
    """Return the schedule, which asks for the iteration that ``josh iterate`` would run next.

    Args:
        loaded: says with which settings, when it was made.
    """
    again = "anew where it has changed" if automation.refresh_corpus else "as stored"

    @dg.schedule(
        name="weekly_retraining",
        job=retraining,
        cron_schedule=automation.retraining_cron,
        execution_timezone=automation.timezone,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Once switched on: the iteration that josh iterate would run next, which is the one after "
        "the last promotion, or a new attempt at one that was refused or is unfinished. 'Preview tick result' shows "
        "which, with which settings, or why nothing is asked for, and begins its partition; the run's tags repeat it. "
        "The settings are those of "
        "the home's last run: of the last josh iterate, or of a run in this UI that made cold_start or came to "
        f"promotion, with what its launchpad said. Reruns of other single assets do not count. {loaded} The source is "
        f"taken {again} (automation.refresh_corpus). {TAKES_EFFECT.format(cron='retraining_cron')}",
    )
    def weekly_retraining(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        home = open_home()
        try:
            settings = home.settings()
            step = Step(home, home.warehouse(), settings, "", SilentProgress())
            key, is_baseline = coming_iteration(step)
            changed = settings.automation.refresh_corpus and environment.source_changed(step)
        except UserError as fault:
            return dg.SkipReason(str(fault))
        if settings.policy.endpoint is not None:
            return dg.SkipReason(
                f"The last run played with the model at {settings.policy.endpoint}, whose weights cannot be trained "
                "here: run josh iterate with a --profile that trains."
            )
        if is_baseline:
            return dg.SkipReason("The base has not been evaluated: run the job baseline once, or josh iterate.")
        if busy := under_way(context.instance, key):
            return dg.SkipReason(busy)
        context.instance.add_dynamic_partitions(str(ITERATIONS.name), [key])
        tick = context.scheduled_execution_time.strftime("%Y-%m-%dT%H:%M")
        source = "changed, read anew" if changed else "as stored"
        stages = [*SOURCE, *LOOP] if changed else LOOP
        return request(home, settings, key, f"weekly-{key}-{tick}", stages, source=source)

    return weekly_retraining


def audit_schedule(automation: AutomationSettings) -> dg.ScheduleDefinition:
    """Return the schedule that audits the home."""
    return dg.ScheduleDefinition(
        name="weekly_audit",
        job=audit,
        cron_schedule=automation.audit_cron,
        execution_timezone=automation.timezone,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Once switched on: asset audit, whose check lineage_holds fails where anything in the home was "
        f"altered. {TAKES_EFFECT.format(cron='audit_cron')}",
    )


@dg.sensor(
    job=iteration,
    default_status=dg.DefaultSensorStatus.STOPPED,
    minimum_interval_seconds=30,
    description="Once switched on: after a promotion, runs the iteration that goes on from it, and so on while "
    "the gate passes. It stops at iteration automation.max_iteration, and rests while its runs of the last 24 "
    "hours took automation.hours_a_day hours (settings of the home's last run). What it waits for is the "
    "skip reason of its last tick.",
)
def next_round(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
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
    home = open_home()
    try:
        settings = home.settings()
    except UserError as fault:
        return dg.SkipReason(str(fault))
    limits = settings.automation
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
    # Dagster adds the partition with the run, and none where somebody only looks what a tick would do.
    return dg.SensorResult(
        run_requests=[request(home, settings, following, run_key)],
        dynamic_partitions_requests=[ITERATIONS.build_add_request([following])],
    )


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
