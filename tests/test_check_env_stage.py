"""The check of an environment as checks of the tasks' asset: what cannot be forked is never searched."""

from pathlib import Path
from typing import Any

import broken_environments
import dagster as dg
import pytest
from finished_home import step_of
from tiny_loop import tiny_profile

from assets.launch import instance_of, run_job
from josh_pipeline.core.errors import UserError
from josh_pipeline.stages.registry import BY_NAME, missing_preparation, open_home
from josh_pipeline.stages.stage import Made, Step
from josh_pipeline.store.home import Home

GOALS = BY_NAME["goals"].asset


def home_of(shelf: str, folder: Path) -> tuple[Home, Step]:
    """A new home whose settings name a shelf, and a step of it."""
    home = open_home(folder / "home")
    name = f"{broken_environments.__file__}:{shelf}"
    settings = home.settings(str(tiny_profile(folder, environment={"name": name})))
    return home, step_of(home, settings, "run")


def made(step: Step) -> Made:
    BY_NAME["corpus"].run(step, None)
    return BY_NAME["goals"].run(step, None)


def test_what_can_be_forked_has_its_cost_and_its_promises_in_the_check(tmp_path: Path) -> None:
    _, step = home_of("Shelf", tmp_path)
    verdicts = made(step).verdicts
    forkable, sound = verdicts["environment_forkable"], verdicts["environment_sound"]
    assert forkable.passed and forkable.sentence == "All 9 promises hold in 24 scripts on 6 tasks."
    assert sound.passed and sound.sentence == "All 4 promises hold in 24 scripts on 6 tasks."
    assert forkable.numbers["milliseconds a fork"] > 0 and forkable.numbers["bytes a fork"] > 0
    assert {"forks", "repeats"} < {one["promise"] for one in forkable.numbers["promises"] if one["kept"]}


def test_what_only_loses_branches_is_warned_about_and_goes_on(tmp_path: Path) -> None:
    _, step = home_of("Raising", tmp_path)
    verdicts = made(step).verdicts
    assert verdicts["environment_forkable"].passed
    assert not verdicts["environment_sound"].passed and "raised KeyError" in verdicts["environment_sound"].sentence


@pytest.mark.parametrize("shelf", ["SharedBasket", "RandomId", "Numbered", "HiddenState"])
def test_an_environment_that_cannot_be_forked_is_refused_before_its_tasks_are_written(
    shelf: str, tmp_path: Path
) -> None:
    _, step = home_of(shelf, tmp_path)
    for _ in range(2):
        with pytest.raises(UserError, match=r"^Task order-\w+: .*: let "):
            made(step)
        assert "goals" in [stage.name for stage in missing_preparation(step)], "the next run does not go on without it"
    assert step.warehouse.rows("SELECT * FROM goals") == []


def test_the_refused_check_is_in_dagsters_log_and_its_sentence_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOSH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", "")
    home, step = home_of("SharedBasket", tmp_path)
    with instance_of(home) as instance:
        with pytest.raises(
            UserError, match=r"^Task order-\w+: .* in a fork.*: let fork\(\) copy all that moves change"
        ):
            run_job(instance, "prepare", home.keep_settings(step.settings), assets=["multiwoz_dialogues", GOALS])
        checks: Any = instance.event_log_storage.get_latest_asset_check_execution_by_key(
            [dg.AssetCheckKey(dg.AssetKey(GOALS), "environment_forkable")]
        )
        (latest,) = checks.values()
        evaluation = latest.event.dagster_event.asset_check_evaluation_data
        assert not evaluation.passed and evaluation.blocking and evaluation.severity == dg.AssetCheckSeverity.ERROR
        assert evaluation.description.startswith("Task order-")
        assert {"promises", "scripts played"} <= evaluation.metadata.keys()
        assert instance.get_latest_materialization_event(dg.AssetKey(GOALS)) is None
        assert instance.get_latest_materialization_event(dg.AssetKey("multiwoz_dialogues")) is not None
