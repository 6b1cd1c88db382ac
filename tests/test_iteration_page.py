"""The loop on one page plays what the stages play."""

import ast
from pathlib import Path
from typing import Any

import pytest
from finished_home import SFT, run_iteration, run_stages, step_of
from tiny_loop import SETTINGS, play_with, tiny_profile

import josh_pipeline.iteration
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.environments.registry import environment_class
from josh_pipeline.iteration import Loop, Player
from josh_pipeline.settings import Settings
from josh_pipeline.stages.failures import missed_before
from josh_pipeline.stages.playing import environment_of
from josh_pipeline.stages.policy import policy_of
from josh_pipeline.stages.preferences import stored_rows
from josh_pipeline.stages.registry import open_home, prepare
from josh_pipeline.stages.rollouts import stored_trees
from josh_pipeline.store.home import Home


def test_a_page_without_a_store_gets_the_same_trees_rows_and_adapter_as_the_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    play_with(monkeypatch, lambda digest: 0.8)
    home = open_home(tmp_path / "home")
    settings = home.settings(str(tiny_profile(tmp_path, training=SFT)))
    prepare(step_of(home, settings, "prepare"))
    for key in ("000", "001"):
        run_iteration(home, settings, key, f"run-{key}")
    row = policy_of(home.warehouse(), "001")

    environment = environment_class(settings.environment.name).read(
        settings.environment, tmp_path / "cache", SilentProgress()
    )
    loop = Loop(environment, settings, tmp_path / "work", SilentProgress())
    base = Player(row.policy_digest, home.absolute(row.base_path), row.base_digest, None)
    found = loop.iterate(base, "001")

    assert [tree.rollout_id for tree in found.trees] == [
        tree.rollout_id for tree in stored_trees(home.warehouse(), "001")
    ]
    assert [one.row_id for one in found.rows] == [one.row_id for one in stored_rows(home.warehouse(), "001")]
    trained = home.warehouse().rows("SELECT policy_digest FROM current_trainings")
    assert found.candidate.digest == trained[0]["policy_digest"]
    (reward,) = home.warehouse().rows(
        "SELECT before, after, n FROM current_comparisons WHERE role = 'val' AND metric = 'reward'"
    )
    assert (found.gate.before, found.gate.after, found.gate.n) == (reward["before"], reward["after"], reward["n"])
    run_stages(home, settings, "run-002", "002", "policy")
    assert found.policy.digest == policy_of(home.warehouse(), "002").policy_digest


def page_of(home: Home, settings: Settings, **more: Any) -> Loop:
    environment = environment_class(settings.environment.name).read(settings.environment, home.cache, SilentProgress())
    return Loop(environment, settings, home.root / "work", SilentProgress(), **more)


def player_of(home: Home, iteration: str) -> Player:
    row = policy_of(home.warehouse(), iteration)
    adapter = home.absolute(row.adapter_path) if row.adapter_path else None
    return Player(row.policy_digest, home.absolute(row.base_path), row.base_digest, adapter)


@pytest.mark.parametrize(
    "changes",
    [
        {"training": {"method": "kto", "start": "base"}, "harvest": {"mode": "partial", "replay": 1}},
        {
            "training": {"method": "sft"},
            "harvest": {"mode": "paper", "replay": 2},
            "search": SETTINGS["search"] | {"draw": "failures"},
        },
    ],
    ids=["kto, partial, from the base, replayed", "sft, paper, replayed, drawn by failures"],
)
def test_a_second_round_on_the_page_is_that_of_the_stages(
    changes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    play_with(monkeypatch, lambda digest: 0.6)
    home = open_home(tmp_path / "home")
    training = {name: value for name, value in SFT.items() if name != "method"} | changes["training"]
    settings = home.settings(str(tiny_profile(tmp_path, **changes | {"training": training})))
    prepare(step_of(home, settings, "prepare"))
    for key in ("000", "001", "002"):
        run_iteration(home, settings, key, f"run-{key}")
    store = home.warehouse()
    first = stored_trees(store, "001")
    row, missed = policy_of(store, "002"), {}
    if settings.search.draw == "failures":
        missed = missed_before(store, environment_of(step_of(home, settings, "look"), row), row)
    loop = page_of(
        home, settings, played={tree.goal_id: 1 for tree in first}, missed=missed, earlier=[stored_rows(store, "001")]
    )
    found = loop.iterate(player_of(home, "002"), "002")
    assert [tree.rollout_id for tree in found.trees] == [tree.rollout_id for tree in stored_trees(store, "002")]
    assert [one.row_id for one in found.rows] == [one.row_id for one in stored_rows(store, "002")]
    trained = store.rows("SELECT policy_digest, rows FROM current_trainings WHERE iteration = '002'")[0]
    assert trained["rows"] > len(found.rows), "rows of 001 are trained on again"
    assert found.candidate.digest == trained["policy_digest"]


def test_a_second_attempt_on_the_page_is_that_of_the_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    play_with(monkeypatch, lambda digest: 0.8)
    home = open_home(tmp_path / "home")
    settings = home.settings(str(tiny_profile(tmp_path, training=SFT)))
    prepare(step_of(home, settings, "prepare"))
    base: set[str] = set()
    play_with(monkeypatch, lambda digest: 0.9 if not base or digest in base else 0.0)
    run_iteration(home, settings, "000", "run-000")
    base.add(policy_of(home.warehouse(), "000").policy_digest)
    run_iteration(home, settings, "001", "run-001")
    first = stored_trees(home.warehouse(), "001")
    assert not home.warehouse().rows("SELECT promoted FROM current_promotions WHERE iteration = '001'")[0]["promoted"]
    run_iteration(home, settings, "001", "run-001-again")
    row = policy_of(home.warehouse(), "001")
    assert row.attempt == 2
    loop = page_of(home, settings, played={tree.goal_id: 1 for tree in first})
    found = loop.iterate(player_of(home, "001"), "001", attempt=2)
    again = [tree.rollout_id for tree in stored_trees(home.warehouse(), "001")]
    assert [tree.rollout_id for tree in found.trees] == again != [tree.rollout_id for tree in first]
    trained = home.warehouse().rows("SELECT policy_digest FROM current_trainings WHERE iteration = '001'")[0]
    assert found.candidate.digest == trained["policy_digest"]
    assert not found.gate.passed and found.policy.digest == row.policy_digest


def test_the_page_is_a_page():
    text = Path(josh_pipeline.iteration.__file__).read_text()
    assert len(text.splitlines()) <= 150
    imported = {
        name.name if isinstance(node, ast.Import) else str(node.module)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert not [name for name in imported if name.startswith(("dagster", "assets", "josh_pipeline.store"))]
