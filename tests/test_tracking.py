"""An experiment tracker gets the training curve and the scores of an iteration in one run; nothing depends on it."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from finished_home import copied, run_stages, step_of
from tiny_loop import play_with

from assets.cli import run as main
from assets.factory import told
from josh_pipeline.stages.registry import BY_NAME
from josh_pipeline.store.home import Home


class FakeTrackio(ModuleType):
    """The calls of trackio that transformers and the pipeline make, on dictionaries: run name to what it holds."""

    __version__ = "0.43.0"

    def __init__(self, space: str | None) -> None:
        super().__init__("trackio")
        self.__spec__ = importlib.util.spec_from_loader("trackio", None)
        self.runs: dict[tuple[str, str], dict[str, Any]] = {}
        self.config: dict[str, Any] = {}
        self.open: dict[str, Any] | None = None
        self.context_vars = SimpleNamespace(
            current_space_id=SimpleNamespace(get=lambda: space), current_run=SimpleNamespace(get=lambda: self.open)
        )

    def init(self, project: str, name: str, resume: str, **_: Any) -> None:
        assert resume == "allow"
        self.open = self.runs.setdefault((project, name), {"config": {}, "metrics": []})
        self.config = Config({})
        print("* Created new run")

    def log(self, metrics: dict[str, Any]) -> None:
        assert self.open is not None
        self.open["config"] = self.config.values  # as it does: the config of a run that goes on is the new one's
        self.open["metrics"].append(metrics)

    def finish(self) -> None:
        assert self.open is not None
        self.open = None

    def freeze(self, **_: Any) -> str:
        return "space"


class Config:
    """What is written is kept with the run."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def update(self, values: dict[str, Any], allow_val_change: bool = False) -> None:
        self.values.update(values)

    def __setitem__(self, name: str, value: Any) -> None:
        self.values[name] = value


@pytest.fixture
def trackio(monkeypatch: pytest.MonkeyPatch) -> FakeTrackio:
    fake = FakeTrackio("me/space")
    monkeypatch.setitem(sys.modules, "trackio", fake)
    monkeypatch.setattr("transformers.integrations.integration_utils.is_trackio_available", lambda: True)
    return fake


@pytest.fixture
def home(finished: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    play_with(monkeypatch, lambda digest: 0.8)
    return copied(finished, tmp_path)


TRACKED = {"tracking": {"kind": "trackio", "project": "mine"}}


def test_curve_and_scores_of_an_iteration_are_one_run_that_names_the_run_and_the_iteration(
    home: Home, trackio: FakeTrackio, capsys: pytest.CaptureFixture[str]
) -> None:
    before = home.warehouse().rows("SELECT adapter_digest FROM current_trainings WHERE iteration = '002'")
    settings = home.settings(overrides=dict(TRACKED))
    trained, evaluated = run_stages(home, settings, "3f2a9c1d-dagster", "002", "adapter", "evaluation")
    assert "Created" not in capsys.readouterr().out
    ((place, run),) = trackio.runs.items()
    assert place == ("mine", "002-3f2a9c1d")
    assert run["config"]["dagster_run"] == "3f2a9c1d-dagster" and run["config"]["iteration"] == "002"
    assert run["config"]["settings"] == settings.digest and run["config"]["training"]["learning_rate"] == 3e-4
    curve = [one["train/loss"] for one in run["metrics"] if "train/loss" in one]
    stored = home.warehouse().rows("SELECT count(*) AS n FROM current_training_curves WHERE iteration = '002'")
    assert len(curve) == stored[0]["n"] > 0
    scores = run["metrics"][-1]
    test = home.warehouse().rows(
        "SELECT mean_reward, success_rate FROM current_evaluations "
        "WHERE iteration = '002' AND side = 'after' AND role = 'test'"
    )[0]
    assert (scores["eval/test/reward"], scores["eval/test/success"]) == tuple(test.values())
    assert "eval/drift" in scores and "eval/val/reward" in scores
    link = "https://huggingface.co/spaces/me/space"
    for stage, made in (("adapter", trained), ("evaluation", evaluated)):
        shown = told(BY_NAME[stage], step_of(home, settings, "look"), made, "002")["tracker's run"]
        assert shown == dg.MetadataValue.url(link)
    after = home.warehouse().rows("SELECT adapter_digest FROM current_trainings WHERE iteration = '002'")
    assert after == before, "the adapter is the one that is made without a tracker"


def test_a_later_run_that_only_evaluates_joins_the_run_of_the_training(home: Home, trackio: FakeTrackio) -> None:
    settings = home.settings(overrides=dict(TRACKED))
    run_stages(home, settings, "trains12-dagster", "002", "adapter")
    run_stages(home, settings, "evaluates-dagster", "002", "evaluation")
    assert [name for _, name in trackio.runs] == ["002-trains12"]


@pytest.mark.usefixtures("home")
def test_a_tracker_that_fails_is_one_sentence_and_the_evaluation_is_kept(
    home: Home, trackio: FakeTrackio, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = home.settings(overrides=dict(TRACKED))
    monkeypatch.setattr(trackio, "log", lambda metrics: 1 / 0)
    with pytest.raises(
        Exception, match=r"trackio did not take the scores \(ZeroDivisionError: division by zero\): mend"
    ):
        run_stages(home, settings, "run-8", "002", "evaluation")
    written = home.warehouse().rows(
        "SELECT count(*) AS n FROM generations WHERE stage = 'evaluation' AND run_id = 'run-8' AND current"
    )
    assert written == [{"n": 1}]


@pytest.mark.parametrize("kind", ["trackio", "wandb", "mlflow"])
@pytest.mark.parametrize("place", [(), ("--endpoint", "http://127.0.0.1:9/v1")])
def test_a_tracker_that_is_not_installed_is_refused_before_anything_starts(
    kind: str,
    place: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == kind else real(name))
    home = str(tmp_path / "home")
    assert main(["iterate", "--home", home, "--profile", "quickstart", "--set", f"tracking.kind={kind}", *place]) == 1
    assert capsys.readouterr().err == (
        f"josh: tracking.kind {kind} needs the package {kind}, which is not installed: "
        f"run pip install {kind} in this environment, or set tracking.kind to none.\n"
    )
