"""``josh ui``: Dagster serves the runs of ``josh iterate``, materializes on request, and ends with Ctrl-C."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console
from tiny_loop import play_with, tiny_profile

from josh_pipeline.commands.iterate import iterate
from josh_pipeline.home import Home, open_home

START_SECONDS = 120.0
READY = "{repositoriesOrError{... on RepositoryConnection{nodes{location{name}}}}}"
RUNS = "{runsOrError{... on Runs{results{jobName status}}}}"
LAUNCH = (
    "mutation($p: ExecutionParams!){launchRun(executionParams:$p){__typename "
    "... on LaunchRunSuccess{run{runId}} "
    "... on PythonError{message} ... on RunConfigValidationInvalid{errors{message}}}}"
)
STATUS = "query($id: ID!){runOrError(runId:$id){... on Run{status}}}"
FIGURES = (
    '{assetNodeOrError(assetKey:{path:["benchmark_evaluation"]}){... on AssetNode{assetMaterializations'
    "{partition metadataEntries{label ... on MarkdownMetadataEntry{mdStr}}}}}}"
)


class Ui:
    """A running ``josh ui``."""

    def __init__(self, home: Home, port: int, process: subprocess.Popen[bytes]) -> None:
        self.home = home
        self.process = process
        self.url = f"http://127.0.0.1:{port}/graphql"

    def ask(self, query: str, **variables: Any) -> Any:
        answer = httpx.post(self.url, json={"query": query, "variables": variables}, timeout=60).json()
        assert "errors" not in answer, answer
        return answer["data"]

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.ask(READY)["repositoriesOrError"].get("nodes"):
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.5)
        raise AssertionError("The UI did not come up.")

    def wait_for(self, run_id: str) -> str:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            status = str(self.ask(STATUS, id=run_id)["runOrError"]["status"])
            if status in ("SUCCESS", "FAILURE", "CANCELED"):
                return status
            time.sleep(0.5)
        raise AssertionError("The run did not end.")


@pytest.fixture
def ui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ui]:
    monkeypatch.setenv("JOSH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", "")
    home = open_home()
    play_with(monkeypatch, lambda digest: 0.8)
    iterate(home, home.settings(str(tiny_profile(tmp_path))), 1, Console(stderr=True))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "josh_pipeline.cli", "ui", "--port", str(port), "--home", str(home.root)]
    with (tmp_path / "ui.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        yield Ui(home, port, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def test_the_ui_shows_the_runs_materializes_a_partition_and_ends_with_ctrl_c(ui: Ui) -> None:
    ui.wait_until_ready()
    runs = ui.ask(RUNS)["runsOrError"]["results"]
    assert {(run["jobName"], run["status"]) for run in runs} == {
        ("prepare", "SUCCESS"), ("baseline", "SUCCESS"), ("iteration", "SUCCESS"), ("whole_goals", "SUCCESS"),
    }  # fmt: skip

    evaluated = ui.ask(FIGURES)["assetNodeOrError"]["assetMaterializations"]
    assert {one["partition"] for one in evaluated} == {"000", "001"}
    for one in evaluated:
        drawn = [
            entry["mdStr"] for entry in one["metadataEntries"] if entry["label"] == "success by iteration"
        ]
        assert drawn and drawn[0].startswith("![figure](data:image/png;base64,")

    selector = {
        "repositoryLocationName": "josh",
        "repositoryName": "__repository__",
        "jobName": "iteration",
        "assetSelection": [{"path": ["reward_labels"]}],
    }
    tags = [{"key": "dagster/partition", "value": "001"}]
    launched = ui.ask(
        LAUNCH, p={"selector": selector, "runConfigData": {}, "executionMetadata": {"tags": tags}}
    )
    run_id = launched["launchRun"]["run"]["runId"]
    assert ui.wait_for(run_id) == "SUCCESS"
    written = ui.home.warehouse().rows(
        "SELECT generation, run_id FROM generations WHERE stage = 'labels' AND scope = '001' AND current"
    )
    assert written == [{"generation": 2, "run_id": run_id}]

    children = [pid for pid, parent, _, _ in processes() if parent == ui.process.pid]
    assert children
    ui.process.send_signal(signal.SIGINT)
    assert ui.process.wait(60) == 0
    assert [one for one in processes() if one[2] in children and not one[3].startswith("Z")] == []


def processes() -> list[tuple[int, int, int, str]]:
    """All processes: id, parent, group, state."""
    listed = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,pgid=,stat="], capture_output=True, text=True, check=True
    )
    rows = [line.split() for line in listed.stdout.splitlines()]
    return [(int(row[0]), int(row[1]), int(row[2]), row[3]) for row in rows]
