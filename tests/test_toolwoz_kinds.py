"""Parts, whole goals and the curriculum: what is searched and evaluated, and what homes of before called it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from finished_home import SFT, run_iteration, step_of
from tiny_loop import SETTINGS, play_with, tiny_profile
from toolwoz_town import corpus_of, dinner, journey

from josh_pipeline.core.content import content_id
from josh_pipeline.core.errors import UserError
from josh_pipeline.environments.toolwoz.environment import ToolWoz
from josh_pipeline.environments.toolwoz.settings import GoalSettings, ToolWozSettings
from josh_pipeline.iteration import Loop, Player
from josh_pipeline.settings import Settings, load_settings
from josh_pipeline.stages.cold_start import scripted
from josh_pipeline.stages.goals import looped_kinds
from josh_pipeline.stages.policy import policy_of, round_of
from josh_pipeline.stages.registry import open_home, prepare
from josh_pipeline.stages.rollouts import stored_trees
from josh_pipeline.stages.stage import goals_scope, recorded_settings

CURRICULUM = {
    "name": "toolwoz",
    "corpus": {"source": "sample", "sample_dialogues": 240},
    "goals": {"kind": "curriculum", "domains": ["attraction"]},
}


def town(kind: Any) -> ToolWoz:
    return ToolWoz(ToolWozSettings(goals=GoalSettings(kind=kind)), corpus_of(dinner(), journey()))


@pytest.mark.parametrize(
    ("kind", "searched", "played", "kinds"),
    [
        ("parts", ["part", "part", "part"], "part", {"part", "whole"}),
        ("whole", ["whole", "whole", "whole"], "whole", {"whole"}),
        ("curriculum", ["part", "whole", "whole"], "whole", {"part", "whole"}),
    ],
)
def test_a_kind_says_what_rounds_search_and_what_is_evaluated(
    kind: str, searched: list[str], played: str, kinds: set[str]
) -> None:
    environment = town(kind)
    assert [environment.searched(number) for number in (1, 2, 3)] == searched
    assert (environment.played, environment.headline) == (played, "whole")
    assert {task.kind for task in environment.tasks()} == kinds
    assert all("train" in roles for name, roles in looped_kinds(environment).items() if name in searched)


@pytest.mark.parametrize(("kind", "parts"), [("parts", True), ("whole", False)])
def test_goals_and_rules_of_before_keep_their_names(kind: str, parts: bool) -> None:
    environment = town(kind)
    before = {"semantics": "audited", "parts": parts, "domains": ["hotel", "restaurant", "attraction", "train"]}
    assert environment.settings.tasks_key() == before
    assert environment.digest == content_id("toolwoz", environment.corpus.digest, before)


@pytest.mark.parametrize(("parts", "kind"), [(True, "parts"), (False, "whole")])
def test_what_was_written_as_parts_is_read_as_the_kind_that_it_was(parts: bool, kind: str, tmp_path: Path) -> None:
    stored: dict[str, Any] = load_settings("quickstart").model_dump(mode="json")
    stored["environment"]["goals"] = {"semantics": "audited", "parts": parts, "domains": ["restaurant"]}
    file = tmp_path / "last.yaml"
    file.write_text(yaml.safe_dump(stored))
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"extends: quickstart\nenvironment: {{goals: {{parts: {str(parts).lower()}}}}}\n")
    read = (
        recorded_settings({"run_id": "old", "settings": json.dumps(stored)}),
        load_settings(str(file)),
        load_settings(str(mine)),
    )
    assert [goals_of(one).kind for one in read] == [kind] * 3
    laid = load_settings(str(file), {"environment": {"goals": {"kind": "curriculum"}}})
    assert goals_of(laid).kind == "curriculum", "a kind may be laid over what a home of before has stored"


def goals_of(settings: Settings) -> GoalSettings:
    assert isinstance(settings.environment, ToolWozSettings)
    return settings.environment.goals


def test_parts_beside_a_kind_is_a_fault() -> None:
    with pytest.raises(UserError, match=r"environment\.goals\.parts: there is no such setting"):
        load_settings("quickstart", {"environment": {"goals": {"parts": False}}})


def kinds_of(rows: list[Mapping[str, Any]]) -> set[str]:
    return {row["kind"] for row in rows}


def test_a_curriculum_demonstrates_and_first_searches_parts_then_whole_goals_and_evaluates_whole_goals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play_with(monkeypatch, lambda digest: 0.8)
    home = open_home(tmp_path / "home")
    evaluation = SETTINGS["evaluation"] | {"test_goals": 3, "val_goals": 2}
    settings = home.settings(str(tiny_profile(tmp_path, environment=CURRICULUM, evaluation=evaluation, training=SFT)))
    step = step_of(home, settings, "prepare")
    prepare(step)
    for key in ("000", "001", "002"):
        run_iteration(home, settings, key, f"run-{key}")
    rows, store = home.warehouse().rows, home.warehouse()

    assert [round_of(store, policy_of(store, key)) for key in ("000", "001", "002")] == [0, 1, 2]
    searched = "SELECT DISTINCT kind FROM current_trees JOIN current_goals USING (goal_id) WHERE iteration = ?"
    assert [kinds_of(rows(searched, [key])) for key in ("001", "002")] == [{"part"}, {"whole"}]
    assert {row["goal_kind"] for row in rows("SELECT DISTINCT goal_kind FROM current_evaluations")} == {"whole"}
    played = rows("SELECT count(DISTINCT settings_digest) AS n, count(DISTINCT goal_id) AS goals FROM episodes")
    assert played == [{"n": 1, "goals": 5}], "rounds are compared on the same goals under the same rules"
    taught = settings.model_copy(update={"cold_start": settings.cold_start.model_copy(update={"conversations": 4})})
    shown = scripted(step_of(home, taught, "teach"), goals_scope(settings))
    ids = [one.goal_id for one in shown]
    assert kinds_of(rows("SELECT kind FROM current_goals WHERE list_contains(?, goal_id)", [ids])) == {"part"}

    row = policy_of(store, "002")
    environment = ToolWoz.read(settings.environment, home.cache, step.progress)
    adapter = home.absolute(row.adapter_path) if row.adapter_path else None
    page = Loop(
        environment, settings, tmp_path / "work", step.progress,
        played={tree.goal_id: 1 for tree in stored_trees(store, "001")},
    )  # fmt: skip
    found = page.iterate(
        Player(row.policy_digest, home.absolute(row.base_path), row.base_digest, adapter), "002", round=2
    )
    assert [tree.rollout_id for tree in found.trees] == [tree.rollout_id for tree in stored_trees(store, "002")]
