"""The sensor, the schedule and a backfill under the daemon of ``josh ui``, down to finished iterations."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from served_ui import CHAIN, SELECTOR, Ui, served

ROUND_SECONDS = 240.0
"""A sensor ticks twice a minute, the schedule of this test once; a tiny iteration takes ten seconds."""
START_SENSOR = "mutation($s: SensorSelector!){startSensor(sensorSelector:$s){__typename ... on PythonError{message}}}"
START_SCHEDULE = (
    "mutation($s: ScheduleSelector!){startSchedule(scheduleSelector:$s){__typename ... on PythonError{message}}}"
)
STOP_SENSOR = "mutation($id: String!){stopSensor(id:$id){__typename}}"
STOP_SCHEDULE = "mutation($id: String!){stopRunningSchedule(id:$id){__typename}}"
SENSOR_TICKS = (
    "query($s: SensorSelector!){sensorOrError(sensorSelector:$s){... on Sensor{id sensorState{"
    "ticks(limit:5){status skipReason runKeys}}}}}"
)
SCHEDULE = "query($s: ScheduleSelector!){scheduleOrError(scheduleSelector:$s){... on Schedule{id}}}"
RUNS = "{runsOrError{... on Runs{results{runId status startTime endTime tags{key value}}}}}"
BACKFILL = (
    "mutation($p: LaunchBackfillParams!){launchPartitionBackfill(backfillParams:$p){__typename "
    "... on LaunchBackfillSuccess{backfillId} ... on PythonError{message}}}"
)
STALE = (
    '{assetNodeOrError(assetKey:{path:["NAME"]}){... on AssetNode{staleStatus(partition:"KEY") '
    'staleCauses(partition:"KEY"){reason key{path}}}}}'
)
AUTOMATION = {"max_iteration": 2, "retraining_cron": "* * * * *"}
BACKFILL_STATUS = "query($id: String!){partitionBackfillOrError(backfillId:$id){... on PartitionBackfill{status}}}"


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """Iteration 001 is done; the sensor may go on to 002."""
    folder = tmp_path_factory.mktemp("daemon")
    with pytest.MonkeyPatch.context() as patch, served(folder, patch, scripted=True, automation=AUTOMATION) as running:
        running.wait_until_ready()
        yield running


def promoted(ui: Ui, iteration: str) -> bool | None:
    """Whether an iteration ended with a promotion; None while it has not ended."""
    found = ui.home.warehouse().rows("SELECT promoted FROM current_promotions WHERE iteration = ?", [iteration])
    return bool(found[0]["promoted"]) if found else None


def tags(run: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["tags"]}


def test_sensor_and_schedule_run_the_next_iterations_and_say_why_they_stop(ui: Ui) -> None:
    sensor = {**SELECTOR, "sensorName": "next_round"}
    schedule = {**SELECTOR, "scheduleName": "weekly_retraining"}
    assert ui.ask(START_SENSOR, s=sensor)["startSensor"]["__typename"] == "Sensor"
    assert ui.wait_until(lambda: promoted(ui, "002"), "iteration 002", ROUND_SECONDS) is True

    def capped() -> str | None:
        state = ui.ask(SENSOR_TICKS, s=sensor)["sensorOrError"]["sensorState"]
        reasons = [str(tick["skipReason"]) for tick in state["ticks"]]
        return next((reason for reason in reasons if "max_iteration" in reason), None)

    assert "Iteration 002 was promoted, and automation.max_iteration is 2" in ui.wait_until(
        capped, "the sensor's reason", ROUND_SECONDS
    )
    answer = ui.ask(START_SCHEDULE, s=schedule)["startSchedule"]
    assert answer["__typename"] == "ScheduleStateResult"
    assert ui.wait_until(lambda: promoted(ui, "003"), "iteration 003", ROUND_SECONDS) is True
    ui.ask(STOP_SCHEDULE, id=ui.ask(SCHEDULE, s=schedule)["scheduleOrError"]["id"])
    ui.ask(STOP_SENSOR, id=ui.ask(SENSOR_TICKS, s=sensor)["sensorOrError"]["id"])

    runs = [tags(run) for run in ui.ask(RUNS)["runsOrError"]["results"]]
    by = {run["dagster/partition"]: run for run in runs if "dagster/partition" in run}
    assert by["002"]["dagster/sensor_name"] == "next_round"
    assert by["003"]["dagster/schedule_name"] == "weekly_retraining"
    lines = ui.home.warehouse().rows("SELECT iteration, predecessor FROM current_policies ORDER BY 1")
    assert [row["predecessor"] for row in lines[:4]] == [None, "000", "001", "002"]


def stale(ui: Ui, asset: str, key: str) -> str:
    """What the UI shows of a partition: fresh, stale or missing, and the reason."""
    node = ui.ask(STALE.replace("NAME", asset).replace("KEY", key))["assetNodeOrError"]
    return " ".join([node["staleStatus"], *(cause["reason"] for cause in node["staleCauses"])])


def test_a_rerun_with_other_settings_shows_what_is_downstream_as_stale(ui: Ui) -> None:
    assert stale(ui, "reward_labels", "001") == "FRESH"
    config = {"resources": {"josh": {"config": {"settings": {"search": {"goals": 6}}}}}}
    assert ui.launch("001", ["beam_rollouts"], config) == "SUCCESS"
    shown = stale(ui, "reward_labels", "001")
    assert shown.startswith("STALE") and "data version" in shown
    assert stale(ui, "beam_rollouts", "001") == "FRESH"
    assert ui.launch("001", ["beam_rollouts"], {}) == "SUCCESS"
    assert stale(ui, "reward_labels", "001") == "FRESH", "the same trees as before, so the labels hold"


def test_a_backfill_runs_iterations_in_order_each_on_what_the_one_before_promoted(ui: Ui) -> None:
    keys = ["002", "003"]
    ui.wait_until(lambda: promoted(ui, "003"), "iterations 001 to 003", 1.0)
    before = generations(ui)
    selection = [{"path": [name]} for name in CHAIN]
    asked = ui.ask(BACKFILL, p={"assetSelection": selection, "partitionNames": keys})
    backfill = asked["launchPartitionBackfill"]["backfillId"]

    def ended() -> str | None:
        status = str(ui.ask(BACKFILL_STATUS, id=backfill)["partitionBackfillOrError"]["status"])
        return status if status in ("COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED") else None

    assert ui.wait_until(ended, "the backfill", 2 * ROUND_SECONDS) == "COMPLETED_SUCCESS"
    runs = [run for run in ui.ask(RUNS)["runsOrError"]["results"] if tags(run).get("dagster/backfill") == backfill]
    runs.sort(key=lambda run: float(run["startTime"]))
    assert [tags(run)["dagster/partition"] for run in runs] == keys
    for first, second in pairwise(runs):
        assert first["endTime"] <= second["startTime"]
    after = generations(ui)
    assert all(after[key] == before[key] + 1 for key in keys)


def generations(ui: Ui) -> dict[str, int]:
    """Current generation of each iteration's rollouts."""
    rows = ui.home.warehouse().rows("SELECT scope, generation FROM generations WHERE stage = 'rollouts' AND current")
    return {row["scope"]: row["generation"] for row in rows}
