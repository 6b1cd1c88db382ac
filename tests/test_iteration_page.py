"""The loop on one page plays what the stages play."""

import ast
from pathlib import Path

import pytest
from finished_home import SFT, run_iteration, step_of
from tiny_loop import play_with, tiny_profile

import josh_pipeline.iteration
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.environments.registry import environment_class
from josh_pipeline.iteration import Loop, Player
from josh_pipeline.stages.policy import policy_of
from josh_pipeline.stages.preferences import stored_rows
from josh_pipeline.stages.registry import open_home, prepare
from josh_pipeline.stages.rollouts import stored_trees


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
    assert found.policy.digest == policy_of(home.warehouse(), "002").policy_digest


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
