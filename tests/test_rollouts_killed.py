import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from killed_rollouts import GOALS

from josh_pipeline.stages.registry import LAYOUT
from josh_pipeline.store.warehouse import Warehouse

SCRIPT = Path(__file__).with_name("killed_rollouts.py")


def start(store: Path, said: Path, delay: float) -> subprocess.Popen[str]:
    with said.open("a") as stream:
        return subprocess.Popen([sys.executable, SCRIPT, store, str(delay)], stdout=stream, text=True)


def contents(store: Path) -> dict[str, list[dict[str, object]]]:
    warehouse = Warehouse(store, LAYOUT)
    trees = warehouse.rows("SELECT * FROM trees ORDER BY rollout_id")
    nodes = warehouse.rows("SELECT * FROM nodes ORDER BY rollout_id, position")
    return {"trees": trees, "nodes": nodes}


def torture(folder: Path, kills: int, delay: float, longest_life: float) -> Path:
    """Kill runs at random moments, then let one end; return the store."""
    store, said = folder / "killed.duckdb", folder / "said.txt"
    Warehouse(store, LAYOUT)
    lives = random.Random(7)
    sizes: list[int] = []
    for _ in range(kills):
        process = start(store, said, delay)
        time.sleep(lives.uniform(1.5, longest_life))
        process.kill()
        process.wait()
        promised = said.read_text().split()
        stored = [row["rollout_id"] for row in Warehouse(store, LAYOUT).rows("SELECT rollout_id FROM trees")]
        assert set(promised) <= set(stored), "a tree that was said to be durable is gone"
        assert len(set(stored)) == len(stored)
        sizes.append(len(stored))
    assert sizes[-1] > 0 and sizes[0] < GOALS, f"the kills came too early or too late: {sizes}"
    assert start(store, said, 0.0).wait() == 0
    return store


def assert_undisturbed(folder: Path, store: Path) -> None:
    calm = folder / "calm.duckdb"
    assert start(calm, folder / "calm.txt", 0.0).wait() == 0
    killed, undisturbed = contents(store), contents(calm)
    assert len(undisturbed["trees"]) == GOALS
    assert killed == undisturbed


@pytest.mark.timeout(120)
def test_a_run_that_is_killed_three_times_ends_with_the_rows_of_an_undisturbed_one(tmp_path: Path):
    assert_undisturbed(tmp_path, torture(tmp_path, kills=3, delay=0.03, longest_life=3.5))


@pytest.mark.slow
def test_a_run_that_is_killed_twenty_times_ends_with_the_rows_of_an_undisturbed_one(tmp_path: Path):
    assert_undisturbed(tmp_path, torture(tmp_path, kills=20, delay=0.1, longest_life=4.0))
