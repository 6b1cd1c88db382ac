"""The store: generations, checkpoints, locks."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import duckdb
import polars as pl
import pytest

from josh_pipeline.core.errors import UserError
from josh_pipeline.search.tree import Usage
from josh_pipeline.settings import Settings
from josh_pipeline.store.run_record import record_of
from josh_pipeline.store.warehouse import Generation, Warehouse


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "josh.duckdb")


def rollouts(*ids: str) -> dict[str, pl.DataFrame]:
    return {"rollouts": pl.DataFrame({"rollout_id": ids, "position": range(len(ids))})}


def tree(rollout_id: str, reward: float, failure: str | None = None) -> dict[str, pl.DataFrame]:
    row = {
        "reward": reward, "rollout_id": rollout_id, "goal_id": "g", "policy_digest": "p", "seed": 1,
        "settings_digest": "s", "run_id": "r", "system": "", "tools": "[]", "earned": "[]", "rounds": 1,
        "failure": failure, "simulated_user": "tiny",
    }  # fmt: skip
    row |= asdict(Usage())
    return {"trees": pl.DataFrame([row], schema_overrides={"failure": pl.String})}


def test_a_new_generation_supersedes_the_old_one_which_stays_readable(warehouse: Warehouse) -> None:
    warehouse.publish("rollouts", "001", "run-1", rollouts("a", "b"))
    second = warehouse.publish(
        "rollouts", "001", "run-2", rollouts("c"), inputs=[Generation("policy", "001", 4)]
    )

    assert warehouse.query("SELECT rollout_id FROM current_rollouts")["rollout_id"].to_list() == ["c"]
    assert warehouse.query("SELECT rollout_id FROM rollouts ORDER BY ALL")["rollout_id"].to_list() == [
        "a",
        "b",
        "c",
    ]
    assert warehouse.current("rollouts", "001") == second == Generation("rollouts", "001", 2)
    inputs = warehouse.rows("SELECT inputs FROM generations WHERE current")[0]["inputs"]
    assert json.loads(inputs) == {"policy/001": 4}


def test_a_write_that_fails_leaves_the_current_generation_as_it_was(warehouse: Warehouse) -> None:
    warehouse.publish(
        "preferences",
        "001",
        "run-1",
        {
            "row_nodes": pl.DataFrame(
                {"row_id": ["x"], "node_id": ["n"], "rollout_id": ["t"], "part": ["completion"]}
            )
        },
    )
    with pytest.raises(duckdb.Error):
        warehouse.publish("preferences", "001", "run-2", {"row_nodes": pl.DataFrame({"row_id": ["y"]})})

    assert warehouse.query("SELECT row_id FROM current_row_nodes")["row_id"].to_list() == ["x"]
    assert warehouse.current("preferences", "001") == Generation("preferences", "001", 1)


def test_iterations_do_not_supersede_each_other(warehouse: Warehouse) -> None:
    warehouse.publish("rollouts", "001", "run-1", rollouts("a"))
    warehouse.publish("rollouts", "002", "run-2", rollouts("b"))
    assert warehouse.query("SELECT rollout_id FROM current_rollouts").height == 2


def test_a_stage_writes_its_own_tables_only(warehouse: Warehouse) -> None:
    with pytest.raises(ValueError, match="does not write"):
        warehouse.publish("labels", "001", "run-1", rollouts("a"))


def test_a_checkpointed_tree_never_changes_but_a_failed_one_is_replaced(warehouse: Warehouse) -> None:
    warehouse.append(tree("good", 1.0), key="rollout_id")
    warehouse.append(tree("good", 0.0), key="rollout_id")
    warehouse.append(tree("bad", 0.0, failure="endpoint"), key="rollout_id")
    warehouse.append(tree("bad", 0.5), key="rollout_id")

    rewards = {r["rollout_id"]: r["reward"] for r in warehouse.rows("SELECT * FROM trees")}
    assert rewards == {"good": 1.0, "bad": 0.5}


def test_current_trees_are_those_of_the_current_generation(warehouse: Warehouse) -> None:
    for name in ("a", "b"):
        warehouse.append(tree(name, 1.0), key="rollout_id")
    warehouse.publish("rollouts", "001", "run-1", rollouts("a", "b"))
    warehouse.publish("rollouts", "001", "run-2", rollouts("b"))
    found = warehouse.rows("SELECT iteration, generation, rollout_id FROM current_trees")
    assert found == [{"iteration": "001", "generation": 2, "rollout_id": "b"}]


def test_a_run_is_recorded_once_with_settings_versions_and_seed(warehouse: Warehouse) -> None:
    settings = Settings(profile="quickstart", seed=7)
    for _ in range(2):
        warehouse.record_run(record_of("run-1", settings))
    (run,) = warehouse.rows("SELECT * FROM runs")
    assert (run["seed"], run["settings_digest"]) == (7, settings.digest)
    assert Settings.model_validate(json.loads(run["settings"])) == settings
    assert json.loads(run["packages"])["duckdb"] == duckdb.__version__


def test_a_store_of_another_schema_version_is_refused(warehouse: Warehouse) -> None:
    with warehouse.connection() as connection:
        connection.execute("UPDATE meta SET schema_version = 99")
    with pytest.raises(UserError, match="schema version 99"):
        Warehouse(warehouse.path)


def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "josh.duckdb"
    path.write_text("this is not a database " * 100)
    with pytest.raises(UserError, match="cannot be opened"):
        Warehouse(path)
    assert path.read_text().startswith("this is not")


def test_processes_that_write_at_once_wait_for_each_other(warehouse: Warehouse) -> None:
    program = (
        "import sys, polars as pl\nfrom pathlib import Path\n"
        "from josh_pipeline.store.warehouse import Warehouse\n"
        "w = Warehouse(Path(sys.argv[1]))\n"
        "for i in range(10):\n"
        "    frame = pl.DataFrame({'rollout_id': ['x'], 'position': [i]})\n"
        "    w.publish('rollouts', sys.argv[2], 'r', {'rollouts': frame})"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", program, str(warehouse.path), scope])
        for scope in ("001", "002", "001")
    ]
    assert [child.wait(timeout=60) for child in children] == [0, 0, 0]
    counts = warehouse.rows(
        "SELECT iteration, max(generation) AS g, count(*) AS n FROM rollouts GROUP BY 1 ORDER BY 1"
    )
    assert [(c["g"], c["n"]) for c in counts] == [(20, 20), (10, 10)]
