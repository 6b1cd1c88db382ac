"""An environment of one's own goes through the whole loop, and no file of the library knows it."""

import json
from pathlib import Path

import pytest
import till
from fakes import answered_by, chance
from finished_home import SFT, run_iteration, step_of
from till import PRICES, PoliteTill
from tiny_loop import tiny_profile

from josh_pipeline.audit.whole import audit_home
from josh_pipeline.core.policy import Request
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.stages.registry import open_home, prepare

NAME = f"{till.__file__}:{PoliteTill.__name__}"
EVALUATION = {"test_goals": 1, "val_goals": 1, "bootstrap": 100, "whole_goals": 0}


def seller(request: Request) -> str:
    """Charge what is asked for half of the time, once; else say something."""
    wish = request.messages[1].content.removeprefix("One ").removesuffix(".")
    charged = any(message.role == "tool" for message in request.messages)
    if charged or chance(request).random() < 0.5:
        return "Here you are, please."
    return json.dumps({"name": "charge", "parameters": {"amount": PRICES[wish]}})


def test_its_tasks_are_searched_harvested_trained_evaluated_and_audited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("josh_pipeline.policies.open.open_policy", answered_by(seller))
    home = open_home(tmp_path / "home")
    settings = home.settings(
        str(tiny_profile(tmp_path, environment={"name": NAME}, training=SFT, evaluation=EVALUATION))
    )
    home.remember_settings(settings)
    prepare(step_of(home, settings, "prepare"))
    for key in ("000", "001"):
        run_iteration(home, settings, key, f"run-{key}")

    warehouse = home.warehouse()
    played = warehouse.rows("SELECT g.source_id, t.reward FROM current_trees t JOIN current_goals g USING (goal_id)")
    assert {(tree["source_id"], tree["reward"]) for tree in played} == {("tea", 1.0), ("bread", 1.0)}
    rows = warehouse.rows("SELECT label, sides FROM current_preference_rows")
    assert rows and all('"charge' in row["sides"] for row in rows)
    scores = warehouse.rows("SELECT iteration, goal_kind, n FROM current_evaluations WHERE role = 'test'")
    assert {(one["iteration"], one["goal_kind"], one["n"]) for one in scores} == {
        ("000", "task", 1),
        ("001", "task", 1),
    }
    found, _, _ = audit_home(home, None, SilentProgress())
    assert found.sound, found.of("broken")
