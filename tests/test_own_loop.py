"""The example goes through the whole loop with a scripted policy: searched, harvested, trained, evaluated, audited."""

import json
from pathlib import Path
from typing import Any

import pytest
from fakes import answered_by, chance
from finished_home import SFT, run_iteration, step_of
from tiny_loop import tiny_profile

from josh_pipeline.audit.whole import audit_home
from josh_pipeline.core.policy import Request
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.settings import load_settings
from josh_pipeline.stages.registry import open_home, prepare

EXAMPLE = f"{Path(__file__).parent.parent / 'examples' / 'support_desk.py'}:SupportDesk"
EVALUATION = {"test_goals": 6, "val_goals": 4, "bootstrap": 100, "whole_goals": 0}


def test_the_quickstart_plays_the_example_with_its_own_settings() -> None:
    settings = load_settings("quickstart", {"environment": {"name": EXAMPLE}})
    assert settings.environment.model_dump() == {"name": EXAMPLE, "tasks": None, "call_seconds": 10.0}
    assert settings.taught


def clerk() -> Any:
    """A stand-in for ``open_policy``: asks for the order, finds it, and then refuses, cancels or chats as it falls."""

    def answer(request: Request) -> str:
        said = " ".join(message.content for message in request.messages if message.role == "user")
        numbers = [word.strip(".") for word in said.split() if word.strip(".").isdigit()]
        if not numbers:
            return "Could you tell me the order?"
        made = sum(message.role == "tool" for message in request.messages)
        tool = "find_order" if not made else ("refuse", "cancel_order", "")[int(3 * chance(request).random())]
        if made > 1 or not tool:
            return "That is done."
        return json.dumps({"name": tool, "parameters": {"order": numbers[-1]}})

    return answered_by(answer)


def test_the_example_is_searched_harvested_trained_evaluated_and_audited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("josh_pipeline.policies.open.open_policy", clerk())
    home = open_home(tmp_path / "home")
    profile = tiny_profile(tmp_path, environment={"name": EXAMPLE}, training=SFT, evaluation=EVALUATION)
    settings = home.settings(str(profile))
    home.remember_settings(settings)
    prepare(step_of(home, settings, "prepare"))
    for key in ("000", "001"):
        run_iteration(home, settings, key, f"run-{key}")
    warehouse = home.warehouse()
    rewards = [tree["reward"] for tree in warehouse.rows("SELECT reward FROM current_trees")]
    assert len(rewards) == settings.search.goals and max(rewards) == 1.0
    assert warehouse.rows("SELECT 1 FROM current_nodes WHERE ended = 'void'"), "a wrong write ends its branch"
    rows = warehouse.rows("SELECT sides FROM current_preference_rows")
    assert rows and all("find_order" in row["sides"] for row in rows)
    found, _, _ = audit_home(home, None, SilentProgress())
    assert found.sound, found.of("broken")
