"""Two processes materialize iterations of two lines in one home while a third reads it all the time."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from line_worker import HARVEST
from tiny_loop import play_with, sample_of, tiny_profile

from assets.launch import instance_of, run_job
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.report.load_scores import home_scores
from josh_pipeline.report.tree import load_drawn_tree, telling_tree
from josh_pipeline.report.viewer import tree_page
from josh_pipeline.stages.policy import coming_iteration
from josh_pipeline.stages.registry import missing_preparation, open_home
from josh_pipeline.stages.stage import Step
from josh_pipeline.store.home import Home

WORKER = Path(__file__).with_name("line_worker.py")


def open_line(home: Home, profile: Path) -> str:
    """Prepare a corpus, evaluate its base, resolve the first iteration, and return its key."""
    settings = home.settings(str(profile))
    digest = home.keep_settings(settings)
    step = Step(home, home.warehouse(), settings, "", SilentProgress())
    with instance_of(home) as instance:
        run_job(instance, "prepare", digest, None, [stage.asset for stage in missing_preparation(step)])
        run_job(instance, "baseline", digest)
        first, _ = coming_iteration(step)
        run_job(instance, "iteration", digest, first, HARVEST)
    return first


def read_all(home: Home, iterations: list[str]) -> None:
    """Read what people read: the scores, and a tree with its rows, of each line."""
    warehouse = home.warehouse()
    assert home_scores(warehouse)
    for iteration in iterations:
        found = warehouse.rows(
            "SELECT (SELECT count(*) FROM current_trees WHERE iteration = $i) AS trees, "
            "(SELECT count(*) FROM current_rollouts WHERE iteration = $i) AS listed",
            {"i": iteration},
        )[0]
        assert found["trees"] == found["listed"] > 0, "a generation is seen whole or not at all"
        rollout = telling_tree(warehouse, iteration)
        assert rollout is not None and "</html>" in tree_page(load_drawn_tree(warehouse, rollout))


def work_and_read(folder: Path, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setenv("JOSH_HOME", str(folder / "home"))
    monkeypatch.setenv("DAGSTER_HOME", "")
    play_with(monkeypatch, lambda digest: 0.8)
    home = open_home()
    lines = {}
    for dialogues in (120, 140):
        place = folder / str(dialogues)
        place.mkdir()
        profile = tiny_profile(place, environment=sample_of(dialogues))
        lines[open_line(home, profile)] = profile
    assert list(lines) == ["001", "003"]

    workers = {}
    for iteration, profile in lines.items():
        with (folder / f"{iteration}.out").open("w") as out, (folder / f"{iteration}.err").open("w") as err:
            command = [sys.executable, WORKER, home.root, profile, iteration, str(seconds)]
            workers[iteration] = subprocess.Popen(command, stdout=out, stderr=err)
    reads = 0
    try:
        deadline = time.monotonic() + seconds + 300
        while any(worker.poll() is None for worker in workers.values()) and time.monotonic() < deadline:
            read_all(home, list(lines))
            reads += 1
    finally:
        for worker in workers.values():
            worker.kill()
    for iteration, worker in workers.items():
        assert worker.wait() == 0, (folder / f"{iteration}.err").read_text()[-3000:]
    assert reads > 3
    nothing_is_lost(home, folder, list(lines))


def nothing_is_lost(home: Home, folder: Path, iterations: list[str]) -> None:
    """Every row that a worker saw after a step is there; each generation once, and one of them current."""
    warehouse = home.warehouse()
    for iteration in iterations:
        said = [json.loads(line) for line in (folder / f"{iteration}.out").read_text().splitlines()]
        assert len({one["generation"] for one in said}) >= 2, "the workers had no time to meet"
        for one in said:
            rows = warehouse.rows(
                f"SELECT count(*) AS n FROM {one['table']} WHERE iteration = ? AND generation = ?",
                [iteration, one["generation"]],
            )[0]["n"]
            assert rows == one["rows"]
    counted = warehouse.rows(
        "SELECT stage, scope, count(*) AS n, max(generation) AS last, count(*) FILTER (current) AS current, "
        "count(*) FILTER (current AND generation = last) AS newest FROM (SELECT *, max(generation) OVER "
        "(PARTITION BY stage, scope) AS last FROM generations) GROUP BY ALL"
    )
    assert all(one["n"] == one["last"] and one["current"] == one["newest"] == 1 for one in counted)
    lost = warehouse.rows(
        "SELECT (SELECT count(*) FROM rollouts ANTI JOIN trees USING (rollout_id)) AS trees, "
        "(SELECT count(*) FROM row_nodes ANTI JOIN nodes USING (node_id)) AS nodes, "
        "(SELECT count(*) - count(DISTINCT rollout_id) FROM trees) AS doubled"
    )
    assert lost == [{"trees": 0, "nodes": 0, "doubled": 0}]


def test_two_lines_are_worked_on_and_read_at_once_for_half_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_and_read(tmp_path, monkeypatch, seconds=30)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_lines_are_worked_on_and_read_at_once_for_five_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work_and_read(tmp_path, monkeypatch, seconds=300)
