"""What the schedule and the sensor ask for, and what they say where they ask for nothing."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.test_utils import create_run_for_test

from assets.automation import next_round, schedules, under_way
from assets.factory import ITERATIONS
from josh_pipeline.stages.registry import open_home
from josh_pipeline.store.home import Home

MONDAY = datetime(2026, 11, 23, 3, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("JOSH_HOME", str(tmp_path / "home"))
    return open_home()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


def promote(instance: dg.DagsterInstance, key: str, following: str | None) -> None:
    """Report a promotion, or a refusal where nothing follows."""

    @dg.asset(name="promotion", partitions_def=ITERATIONS)
    def reported() -> dg.MaterializeResult:
        told = {"promoted": following is not None, "reason": "Reward fell.", "next iteration": following or ""}
        return dg.MaterializeResult(metadata=told)

    instance.add_dynamic_partitions("iteration", [key])
    dg.materialize([reported], instance=instance, partition_key=key)


def sensed(instance: dg.DagsterInstance) -> dg.RunRequest | str:
    answer = next_round(dg.build_sensor_context(instance))
    if isinstance(answer, dg.SkipReason):
        return str(answer.skip_message)
    (asked,), (added,) = answer.run_requests or (), answer.dynamic_partitions_requests or ()
    assert added.partition_keys == [asked.partition_key], "a partition from when it is asked for"
    return asked


def scheduled(instance: dg.DagsterInstance) -> dg.RunRequest | str:
    (answer,) = [one(due(instance)) for one in schedules() if one.name == "weekly_retraining"]
    return answer if isinstance(answer, dg.RunRequest) else str(answer.skip_message)


def due(instance: dg.DagsterInstance) -> dg.ScheduleEvaluationContext:
    return dg.build_schedule_context(instance, scheduled_execution_time=MONDAY)


def allow(home: Home, **limits: float | str) -> None:
    """Let the home's last run have these settings of automation."""
    path = home.settings_file("last")
    path.parent.mkdir(exist_ok=True)
    values = yaml.safe_load(path.read_text()) if path.is_file() else {}
    path.write_text(yaml.safe_dump(values | {"automation": limits}))


def run_of_sensor(instance: dg.DagsterInstance, tags: dict[str, str], began: timedelta, took: timedelta | None) -> None:
    """A run that the sensor asked for, which began so long ago; it failed, or has not ended."""
    run = create_run_for_test(instance, "iteration", tags={"dagster/sensor_name": "next_round"} | tags)
    start = datetime.now(UTC) - began
    moments = [(DagsterEventType.PIPELINE_START, start)]
    if took is not None:
        moments.append((DagsterEventType.PIPELINE_FAILURE, start + took))
    for kind, moment in moments:
        event = DagsterEvent(event_type_value=kind.value, job_name="iteration")
        instance.report_dagster_event(event, run.run_id, timestamp=moment.timestamp())


def test_the_sensor_waits_for_a_first_promotion(home: Home, instance: dg.DagsterInstance) -> None:
    assert "Nothing has been promoted yet" in str(sensed(instance))


def test_after_the_base_was_evaluated_the_sensor_asks_for_the_first_iteration(
    home: Home, instance: dg.DagsterInstance
) -> None:
    def evaluate_base(following: str) -> None:
        @dg.asset(name="base_evaluation")
        def reported() -> dg.MaterializeResult:
            return dg.MaterializeResult(metadata={"promoted": True, "reason": "", "next iteration": following})

        dg.materialize([reported], instance=instance)

    evaluate_base("001")
    asked = sensed(instance)
    assert isinstance(asked, dg.RunRequest) and asked.partition_key == "001"
    promote(instance, "001", "002")
    evaluate_base("003")  # of settings of another line
    allow(home, max_iteration=2)
    assert str(sensed(instance)).startswith("The base was promoted, and automation.max_iteration is 2")


def test_the_sensor_asks_for_what_goes_on_from_a_promotion_once_a_promotion(
    home: Home, instance: dg.DagsterInstance
) -> None:
    promote(instance, "001", "002")
    first = sensed(instance)
    assert isinstance(first, dg.RunRequest) and first.partition_key == "002"
    assert instance.get_dynamic_partitions("iteration") == ["001"], "looking what a tick would do begins nothing"
    again = sensed(instance)
    assert isinstance(again, dg.RunRequest) and again.run_key == first.run_key
    promote(instance, "001", "002")
    rerun = sensed(instance)
    assert isinstance(rerun, dg.RunRequest) and rerun.run_key != first.run_key


def test_after_a_refusal_the_sensor_gives_its_reason_and_asks_for_nothing(
    home: Home, instance: dg.DagsterInstance
) -> None:
    promote(instance, "001", None)
    assert "Iteration 001 was not promoted. Reward fell." in str(sensed(instance))


def test_the_sensor_stops_at_the_cap_of_the_settings(home: Home, instance: dg.DagsterInstance) -> None:
    allow(home, max_iteration=2)
    promote(instance, "001", "002")
    assert isinstance(sensed(instance), dg.RunRequest)
    promote(instance, "002", "003")
    assert "automation.max_iteration is 2" in str(sensed(instance))


def test_the_sensor_rests_while_its_runs_of_the_last_day_took_the_hours_it_may(
    home: Home, instance: dg.DagsterInstance
) -> None:
    allow(home, hours_a_day=4)
    promote(instance, "001", "002")
    run_of_sensor(instance, {}, began=timedelta(hours=26), took=timedelta(hours=4))  # 2 of the last 24
    assert isinstance(sensed(instance), dg.RunRequest)
    run_of_sensor(instance, {}, began=timedelta(hours=5), took=timedelta(hours=2.5))
    assert "runs took 4.5 hours of the last 24, and automation.hours_a_day is 4" in str(sensed(instance))


def test_neither_asks_for_an_iteration_that_is_under_way(home: Home, instance: dg.DagsterInstance) -> None:
    promote(instance, "001", "002")
    run_of_sensor(instance, {"dagster/partition": "002"}, began=timedelta(minutes=1), took=None)
    assert "Iteration 002 is under way" in str(under_way(instance, "002"))
    assert under_way(instance, "001") is None
    assert "Iteration 002 is under way" in str(sensed(instance))


def test_an_iteration_that_failed_is_not_asked_for_again_by_itself(home: Home, instance: dg.DagsterInstance) -> None:
    promote(instance, "001", "002")
    asked = sensed(instance)
    assert isinstance(asked, dg.RunRequest)
    tags = {"dagster/run_key": str(asked.run_key)}
    run_of_sensor(instance, tags, began=timedelta(minutes=5), took=timedelta(minutes=1))
    assert "ended as failure without a promotion" in str(sensed(instance))


def test_the_schedule_says_what_to_materialize_in_a_home_where_nothing_is_prepared(
    home: Home, instance: dg.DagsterInstance
) -> None:
    assert "Materialize toolwoz_goals first" in str(scheduled(instance))
