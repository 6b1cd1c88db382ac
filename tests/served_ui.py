"""A running ``josh ui`` on a home that the tiny loop has filled, and the processes of this machine."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
from rich.console import Console
from tiny_loop import play_with, tiny_profile

from assets.iterate import iterate
from josh_pipeline.stages.registry import open_home
from josh_pipeline.store.home import Home

Found = TypeVar("Found")

CHAIN = (
    "policy",
    "beam_rollouts",
    "reward_labels",
    "preference_pairs",
    "lora_adapter",
    "benchmark_evaluation",
    "promotion",
)
"""The assets of an iteration, from first to last."""

START_SECONDS = 120.0
SCRIPTED = Path(__file__).with_name("scripted_ui.py")
READY = "{repositoriesOrError{... on RepositoryConnection{nodes{location{name}}}}}"
SELECTOR = {"repositoryLocationName": "josh", "repositoryName": "__repository__"}
LAUNCH = (
    "mutation($p: ExecutionParams!){launchRun(executionParams:$p){__typename "
    "... on LaunchRunSuccess{run{runId}} "
    "... on PythonError{message} ... on RunConfigValidationInvalid{errors{message}}}}"
)
STATUS = "query($id: ID!){runOrError(runId:$id){... on Run{status}}}"


class Ui:
    """A running ``josh ui``."""

    def __init__(self, home: Home, port: int, process: subprocess.Popen[bytes]) -> None:
        self.home = home
        self.process = process
        self.url = f"http://127.0.0.1:{port}"

    def post(self, query: str, **variables: Any) -> Any:
        body = {"query": query, "variables": variables}
        return httpx2.post(f"{self.url}/graphql", json=body, timeout=60).json()

    def ask(self, query: str, **variables: Any) -> Any:
        answer = self.post(query, **variables)
        assert "errors" not in answer, answer
        return answer["data"]

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.ask(READY)["repositoriesOrError"].get("nodes"):
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.5)
        raise AssertionError("The UI did not come up.")

    def launch(self, key: str, assets: list[str], config: dict[str, Any]) -> str:
        """Materialize assets of a partition as the launchpad does, and return how the run ended."""
        params = {
            "selector": {**SELECTOR, "jobName": "iteration", "assetSelection": [{"path": [a]} for a in assets]},
            "runConfigData": config,
            "executionMetadata": {"tags": [{"key": "dagster/partition", "value": key}]},
        }
        return self.wait_for(self.ask(LAUNCH, p=params)["launchRun"]["run"]["runId"])

    def wait_for(self, run_id: str) -> str:
        def ended() -> str | None:
            status = str(self.ask(STATUS, id=run_id)["runOrError"]["status"])
            return status if status in ("SUCCESS", "FAILURE", "CANCELED") else None

        return self.wait_until(ended, f"the end of run {run_id}")

    def wait_until(self, look: Callable[[], Found | None], what: str, seconds: float = START_SECONDS) -> Found:
        """Look twice a second until there is something, and return it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = look()
            if found is not None:
                return found
            time.sleep(0.5)
        raise AssertionError(f"Waited {seconds:.0f} s in vain for {what}.")


@contextmanager
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scripted: bool = False, **changes: Any) -> Iterator[Ui]:
    """Fill a home with one iteration of the tiny loop and serve it.

    Args:
        scripted: see ``serving``.
        changes: sections of the settings, see ``tiny_profile``.
    """
    monkeypatch.setenv("JOSH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", "")
    home = open_home()
    play_with(monkeypatch, lambda digest: 0.8)
    iterate(home, home.settings(str(tiny_profile(tmp_path, **changes))), 1, Console(stderr=True))
    with serving(home, tmp_path, scripted) as ui:
        yield ui


@contextmanager
def serving(home: Home, tmp_path: Path, scripted: bool = False) -> Iterator[Ui]:
    """Serve a home.

    Args:
        scripted: let the runs that the UI and its daemon start play with the scripted policy too.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = [str(SCRIPTED)] if scripted else ["-m", "assets.cli", "ui"]
    command = [sys.executable, *program, "--port", str(port), "--home", str(home.root)]
    with (tmp_path / "ui.log").open("wb") as log:
        # The scripted workspace names its module relative to the folder that Dagster is started in.
        folder = SCRIPTED.parent if scripted else None
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, cwd=folder)
    try:
        yield Ui(home, port, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def descendants(of: int) -> set[int]:
    """The processes that a process started, and those that they started, whatever their group."""
    listed = processes()
    found: set[int] = set()
    while more := {pid for pid, parent, _, _ in listed if parent in found | {of}} - found:
        found |= more
    return found


def alive(ids: set[int]) -> list[tuple[int, int, int, str]]:
    """Those processes that still run; a zombie does not."""
    return [one for one in processes() if one[0] in ids and not one[3].startswith("Z")]


def processes() -> list[tuple[int, int, int, str]]:
    """All processes: id, parent, group, state."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,pgid=,stat="], capture_output=True, text=True, check=True)
    rows = [line.split() for line in listed.stdout.splitlines()]
    return [(int(row[0]), int(row[1]), int(row[2]), row[3]) for row in rows]
