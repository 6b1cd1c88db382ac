"""An own environment that is edited between two runs: nothing old is mixed in, and steps say what comes first."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import till
from fakes import answered_by
from finished_home import SFT, run_iteration, run_stages, step_of
from test_environment_loop import EVALUATION, seller
from till import PoliteTill
from tiny_loop import tiny_profile

from josh_pipeline.audit.whole import audit_home
from josh_pipeline.core.environment import Task
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.environments.registry import environment_class
from josh_pipeline.stages.registry import BY_NAME, missing_preparation, open_home, prepare
from josh_pipeline.stages.stage import Step

NAME = f"{till.__file__}:{PoliteTill.__name__}"


@pytest.fixture
def step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Step:
    monkeypatch.setattr("josh_pipeline.policies.open.open_policy", answered_by(seller))
    home = open_home(tmp_path / "home")
    profile = tiny_profile(tmp_path, environment={"name": NAME}, training=SFT, evaluation=EVALUATION)
    settings = home.settings(str(profile))
    home.remember_settings(settings)
    return step_of(home, settings, "run")


def edited(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """Let the class be another from now on, as if its file had been edited."""
    for name, value in changes.items():
        monkeypatch.setattr(environment_class(NAME), name, value, raising=False)


def test_trees_and_conversations_under_other_rules_are_played_anew(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(step)
    for key in ("000", "001"):
        run_iteration(step.home, step.settings, key, f"run-{key}")
    trees, talks = (set(step.warehouse.query(f"SELECT * FROM {name}").to_series()) for name in ("trees", "episodes"))
    edited(monkeypatch, digest=property(lambda self: "other rules"))

    with pytest.raises(UserError, match=r"environment has changed since .* was made: materialize .* again first"):
        BY_NAME["goals"].run(step, None)
    BY_NAME["corpus"].run(step, None)
    with pytest.raises(UserError, match=r"materialize .* and policy of iteration 001 again"):
        run_stages(step.home, step.settings, "run", "001", "rollouts")
    BY_NAME["goals"].run(step, None)
    run_iteration(step.home, step.settings, "000", "again")
    run_iteration(step.home, step.settings, "001", "again")

    now = set(step.warehouse.query("SELECT rollout_id FROM current_trees WHERE iteration = '001'").to_series())
    assert now and not now & trees
    played = set(step.warehouse.query("SELECT episode_id FROM current_episodes").to_series())
    assert played and not played & talks


def tasks_as(change: Callable[[Task], Task]) -> Callable[[PoliteTill], list[Task]]:
    return lambda self: [change(task) for task in till.Till.tasks(self)]


def other_roles(task: Task) -> Task:
    return replace(task, source_id="menu") if task.source_id in ("tea", "cake") else task


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda task: replace(task, goal_id="sell"), r"Goal id 'sell' names several tasks: let"),
        (other_roles, r"Source 'menu' has tasks of several roles: give"),
    ],
)
def test_tasks_that_share_an_id_or_a_source_across_roles_are_refused_before_anything_is_played(
    change: Callable[[Task], Task], words: str, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited(monkeypatch, tasks=tasks_as(change))
    with pytest.raises(UserError, match=words):
        prepare(step)
    assert step.warehouse.rows("SELECT * FROM goals") == []


def test_trees_of_goals_that_are_gone_are_not_labelled(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(step)
    for key in ("000", "001"):
        run_iteration(step.home, step.settings, key, f"run-{key}")
    edited(
        monkeypatch,
        tasks=tasks_as(lambda task: replace(task, goal_id=f"{task.goal_id}-now")),
        digest=property(lambda self: self.snapshot_digest),
        snapshot_digest=step.warehouse.query("SELECT corpus_digest FROM corpora").item(),
    )
    BY_NAME["goals"].run(step, None)
    with pytest.raises(UserError, match=r"not in the store any more: materialize beam_rollouts of iteration 001 again"):
        run_stages(step.home, step.settings, "again", "001", "labels")


def test_an_untouched_home_of_it_is_sound(step: Step) -> None:
    prepare(step)
    run_iteration(step.home, step.settings, "000", "run-000")
    assert audit_home(step.home, None, SilentProgress())[0].sound


SHOP = """
from till import *


class Shop(PoliteTill):
    greeting = "{greeting}"
"""


def test_a_file_that_was_edited_is_prepared_anew_and_its_old_rows_are_not_held_to_the_new_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("josh_pipeline.policies.open.open_policy", answered_by(seller))
    monkeypatch.chdir(tmp_path)
    home = open_home(tmp_path / "home")

    def written(greeting: str) -> None:
        Path("shop.py").write_text(SHOP.format(greeting=greeting))
        for name in [name for name in sys.modules if name.startswith("josh_own_shop_")]:
            monkeypatch.delitem(sys.modules, name)  # as in another process

    written("hello")
    profile = tiny_profile(tmp_path, environment={"name": "shop.py:Shop"}, training=SFT, evaluation=EVALUATION)
    step = step_of(home, home.settings(str(profile)), "run")
    home.remember_settings(step.settings)
    prepare(step)
    written("good day")
    found = audit_home(home, None, SilentProgress())[0]
    assert found.sound and [one.where.split("/")[0] for one in found.of("unchecked")] == ["corpus", "goals"]
    assert all("now, by its code" in one.message for one in found.of("unchecked"))
    assert [stage.name for stage in missing_preparation(step)] == ["corpus", "goals"]
    prepare(step)
    assert missing_preparation(step) == []
    found = audit_home(home, None, SilentProgress())[0]
    assert found.sound and found.of("unchecked") == []


def test_an_environment_is_found_from_any_folder(step: Step, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(till.__file__).parent)
    profile = str(tiny_profile(tmp_path, environment={"name": "till.py:PoliteTill"}))
    settings = step.home.settings(profile)
    monkeypatch.chdir(tmp_path)
    assert settings.environment.name == NAME and settings.environment.shown == "till.py:PoliteTill"
    assert environment_class(settings.environment.name).__name__ == "PoliteTill"
