"""``josh ui``: Dagster serves the runs of ``josh iterate``, materializes on request, and ends with Ctrl-C."""

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from served_ui import CHAIN, LAUNCH, Ui, alive, descendants, served

RUNS = "{runsOrError{... on Runs{results{jobName status}}}}"
FIGURES = (
    "{assetNodes{assetKey{path} assetMaterializations{partition metadataEntries{label "
    "... on MarkdownMetadataEntry{mdStr}}}}}"
)
PARTITIONS = "{assetNodes{assetKey{path} partitionStats{numPartitions numMaterialized numFailed}}}"


@pytest.fixture
def ui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ui]:
    with served(tmp_path, monkeypatch) as running:
        yield running


def test_the_address_is_told_once_it_answers_and_nothing_else_before(ui: Ui, tmp_path: Path) -> None:
    log = tmp_path / "ui.log"
    ui.wait_until(lambda: ui.url in log.read_text() or None, "the address")
    assert httpx2.get(ui.url).is_success
    assert log.read_text().splitlines() == [f"Starting Dagster on {ui.home.root}", f"Open {ui.url}  (Ctrl-C stops it)"]


def test_the_ui_shows_the_runs_materializes_a_partition_and_ends_with_ctrl_c(ui: Ui) -> None:
    ui.wait_until_ready()
    runs = ui.ask(RUNS)["runsOrError"]["results"]
    assert {(run["jobName"], run["status"]) for run in runs} == {
        ("prepare", "SUCCESS"), ("baseline", "SUCCESS"), ("iteration", "SUCCESS"), ("whole_goals", "SUCCESS"),
    }  # fmt: skip

    made = {one["assetKey"]["path"][0]: one["assetMaterializations"] for one in ui.ask(FIGURES)["assetNodes"]}
    for asset, partition in (("base_evaluation", None), ("benchmark_evaluation", "001")):
        (one,) = made[asset]
        assert one["partition"] == partition
        drawn = [entry["mdStr"] for entry in one["metadataEntries"] if entry["label"] == "success by iteration"]
        assert drawn and drawn[0].startswith("![figure](data:image/png;base64,")
    assert not made["audit"] and all(found for asset, found in made.items() if asset != "audit")

    of_iterations = [one["partitionStats"] for one in ui.ask(PARTITIONS)["assetNodes"] if one["partitionStats"]]
    assert of_iterations == [{"numPartitions": 1, "numMaterialized": 1, "numFailed": 0}] * (len(CHAIN) + 1)
    assert not ui.home.warehouse().rows("SELECT * FROM generations WHERE NOT current"), "nothing is superseded"

    selector = {
        "repositoryLocationName": "josh",
        "repositoryName": "__repository__",
        "jobName": "iteration",
        "assetSelection": [{"path": ["reward_labels"]}],
    }
    tags = [{"key": "dagster/partition", "value": "001"}]
    launched = ui.ask(LAUNCH, p={"selector": selector, "runConfigData": {}, "executionMetadata": {"tags": tags}})
    run_id = launched["launchRun"]["run"]["runId"]
    assert ui.wait_for(run_id) == "SUCCESS"
    written = ui.home.warehouse().rows(
        "SELECT generation, run_id FROM generations WHERE stage = 'labels' AND scope = '001' AND current"
    )
    assert written == [{"generation": 2, "run_id": run_id}]

    children = descendants(ui.process.pid)
    assert children
    ui.process.send_signal(signal.SIGINT)
    assert ui.process.wait(60) == 0
    assert alive(children) == []
