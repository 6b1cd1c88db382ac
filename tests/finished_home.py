"""A home with a base and two promoted rounds, made by the steps themselves without Dagster.

It is made once a session, in some seconds, and copied for each test that changes it.
"""

import shutil
from pathlib import Path

import pytest
from tiny_loop import play_with, tiny_profile

from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.settings import Settings
from josh_pipeline.stages.registry import BASELINE_LOOP, BY_NAME, LOOP, open_home, prepare
from josh_pipeline.stages.stage import BASELINE, Made, Step, start_step
from josh_pipeline.store.home import Home

SFT = {"method": "sft", "epochs": 1, "max_tokens": 8192, "processes": 0, "lora": {"r": 2, "alpha": 4}}


def run_iteration(home: Home, settings: Settings, key: str, run_id: str) -> None:
    """Run every step of an iteration; of ``000`` those of a baseline."""
    step = step_of(home, settings, run_id)
    for stage in BASELINE_LOOP if key == BASELINE else LOOP:
        stage.run(step, key)


def run_stages(home: Home, settings: Settings, run_id: str, iteration: str, *stages: str) -> list[Made]:
    """Run some stages, in the order in which they are named."""
    step = step_of(home, settings, run_id)
    return [BY_NAME[stage].run(step, iteration) for stage in stages]


def step_of(home: Home, settings: Settings, run_id: str) -> Step:
    """Open a step as a run does."""
    return start_step(home, settings, run_id, SilentProgress())


def finished_home(folder: Path, rounds: int = 2, right: float = 0.8) -> Home:
    """Make the home, with policies that do the right thing so often."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        play_with(monkeypatch, lambda digest: right)
        home = open_home(folder / "home")
        settings = home.settings(str(tiny_profile(folder, training=SFT)))
        home.remember_settings(settings)
        prepare(step_of(home, settings, "prepare"))
        run_iteration(home, settings, BASELINE, "run-0")
        for number in range(1, rounds + 1):
            # Resolved twice: a generation of the policy is one that another has replaced.
            run_stages(home, settings, f"run-{number - 1}", f"{number:03d}", "policy")
            run_iteration(home, settings, f"{number:03d}", f"run-{number}")
    return home


def copied(home: Home, folder: Path) -> Home:
    """Copy a home, so that a test may change it."""
    shutil.copytree(home.root, folder / "home")
    return open_home(folder / "home")
