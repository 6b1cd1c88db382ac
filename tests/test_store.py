"""The store: generations, checkpoints, locks."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from josh_pipeline.core.content import content_id
from josh_pipeline.core.errors import UserError
from josh_pipeline.search.codec import node_records, tree_record
from josh_pipeline.search.tree import Node, Tree, Usage
from josh_pipeline.settings import Settings
from josh_pipeline.stages.registry import LAYOUT
from josh_pipeline.store.digests import altered_rows, combined
from josh_pipeline.store.run_record import record_of
from josh_pipeline.store.warehouse import Generation, Warehouse


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "josh.duckdb", LAYOUT)


def listed(*ids: str) -> dict[str, pl.DataFrame]:
    return {"rollouts": pl.DataFrame({"rollout_id": ids, "position": range(len(ids))})}


ROOT = Node("", None, (), 0, (), (), (), (), False, False, False, None, None, None, None)


def tree(rollout_id: str, reward: float = 1.0, **others: Any) -> dict[str, list[dict[str, Any]]]:
    """The rows of a tree with a root and a child."""
    nodes = tuple(
        replace(ROOT, node_id=content_id(rollout_id, path), path=path, round=len(path)) for path in ((), (0,))
    )
    grown = Tree(rollout_id, "g", "p", 1, "s", "", (), nodes, (), reward, 1, None, None, Usage())
    record = tree_record(replace(grown, **others)) | {"run_id": "r", "simulated_user": "tiny"}
    return {"trees": [record], "nodes": node_records(grown)}


@pytest.fixture
def grown(warehouse: Warehouse) -> Warehouse:
    """The store with trees a, b and c."""
    for name in ("a", "b", "c"):
        warehouse.append(tree(name), key="rollout_id")
    return warehouse


def test_a_new_generation_supersedes_the_old_one_which_stays_readable(grown: Warehouse) -> None:
    grown.publish("rollouts", "001", "run-1", listed("a", "b"))
    second = grown.publish("rollouts", "001", "run-2", listed("c"), inputs=[Generation("policy", "001", 4)])

    assert grown.query("SELECT rollout_id FROM current_rollouts")["rollout_id"].to_list() == ["c"]
    assert grown.query("SELECT rollout_id FROM rollouts ORDER BY ALL")["rollout_id"].to_list() == ["a", "b", "c"]
    assert grown.current("rollouts", "001") == second == Generation("rollouts", "001", 2)
    inputs = grown.rows("SELECT inputs FROM generations WHERE current")[0]["inputs"]
    assert json.loads(inputs) == {"policy/001": 4}


def test_a_write_that_fails_leaves_the_current_generation_as_it_was(warehouse: Warehouse) -> None:
    warehouse.publish(
        "preferences",
        "001",
        "run-1",
        {"row_nodes": pl.DataFrame({"row_id": ["x"], "node_id": ["n"], "rollout_id": ["t"], "part": ["completion"]})},
    )
    with pytest.raises(duckdb.Error):
        warehouse.publish("preferences", "001", "run-2", {"row_nodes": pl.DataFrame({"row_id": ["y"]})})

    assert warehouse.query("SELECT row_id FROM current_row_nodes")["row_id"].to_list() == ["x"]
    assert warehouse.current("preferences", "001") == Generation("preferences", "001", 1)


def test_iterations_do_not_supersede_each_other(grown: Warehouse) -> None:
    grown.publish("rollouts", "001", "run-1", listed("a"))
    grown.publish("rollouts", "002", "run-2", listed("b"))
    assert grown.query("SELECT rollout_id FROM current_rollouts").height == 2


def test_a_stage_writes_its_own_tables_only(grown: Warehouse) -> None:
    with pytest.raises(ValueError, match="does not write"):
        grown.publish("labels", "001", "run-1", listed("a"))


def test_a_row_that_is_there_never_changes_and_what_failed_stays_beside_its_retry(warehouse: Warehouse) -> None:
    warehouse.append(tree("good", 1.0), key="rollout_id")
    before = warehouse.rows("SELECT * FROM trees"), warehouse.rows("SELECT * FROM nodes ORDER BY ALL")
    warehouse.append(tree("good", 0.0), key="rollout_id")
    assert (warehouse.rows("SELECT * FROM trees"), warehouse.rows("SELECT * FROM nodes ORDER BY ALL")) == before

    warehouse.append(tree("bad", 0.0, failure="endpoint"), key="rollout_id")
    warehouse.append(tree("again", 0.5, retry=1), key="rollout_id")
    found = warehouse.rows("SELECT rollout_id, reward, retry, failure FROM trees WHERE rollout_id <> 'good'")
    assert [tuple(row.values()) for row in found] == [("bad", 0.0, 0, "endpoint"), ("again", 0.5, 1, None)]


def test_the_digest_of_a_row_is_of_its_columns_and_a_tree_s_of_its_nodes(warehouse: Warehouse) -> None:
    warehouse.append(tree("one"), key="rollout_id")
    warehouse.append(tree("two", seed=2), key="rollout_id")
    with warehouse.connection() as connection:
        assert not altered_rows(connection, LAYOUT, "trees")
        assert not altered_rows(connection, LAYOUT, "nodes")
        connection.execute("UPDATE trees SET seed = 3 WHERE rollout_id = 'two'")
        assert altered_rows(connection, LAYOUT, "trees") == [{"rollout_id": "two"}]
        combined_ = connection.execute(
            f"SELECT {combined('node_id')} FROM nodes GROUP BY rollout_id ORDER BY rollout_id"
        ).fetchall()
        stored = connection.execute("SELECT nodes_digest FROM trees ORDER BY rollout_id").fetchall()
    assert combined_ == stored and len(set(stored)) == 2


def test_a_generation_counts_its_rows_and_commits_to_them_to_its_run_and_to_its_inputs(grown: Warehouse) -> None:
    for run in ("run-1", "run-2"):
        grown.record_run(record_of(run, Settings(profile="quickstart")))
    one = grown.publish("rollouts", "001", "run-1", listed("a", "b"))
    same = grown.publish("rollouts", "001", "run-2", listed("a", "b"))
    other = grown.publish("rollouts", "001", "run-2", listed("a", "c"))
    counts = [json.loads(row["rows"]) for row in grown.rows("SELECT rows FROM generations")]
    assert counts == [{"rollouts": 2}] * 3
    assert grown.content_of(one) == grown.content_of(same) != grown.content_of(other)
    labels = [grown.publish("labels", "001", "run-1", {}, [source]) for source in (one, same, one)]
    assert len({grown.digest_of(generation) for generation in (one, same, other, *labels)}) == 6
    assert len({grown.content_of(generation) for generation in labels}) == 1


def test_a_list_of_trees_holds_the_digest_of_each_and_cannot_name_one_that_is_not_there(grown: Warehouse) -> None:
    grown.publish("rollouts", "001", "run-1", listed("a", "b"))
    found = grown.rows("SELECT r.tree_digest, t.digest FROM rollouts r JOIN trees t USING (rollout_id)")
    assert len(found) == 2 and all(row["tree_digest"] == row["digest"] for row in found)
    with pytest.raises(duckdb.ConstraintException, match="tree_digest"):
        grown.publish("rollouts", "001", "run-1", listed("a", "nowhere"))


def test_a_stage_is_made_from_what_it_declares_and_from_nothing_else(grown: Warehouse) -> None:
    with pytest.raises(ValueError, match="does not declare that it reads"):
        grown.publish("rollouts", "001", "run-1", listed("a"), [Generation("promotion", "001", 1)])


def test_current_trees_are_those_of_the_current_generation(grown: Warehouse) -> None:
    grown.publish("rollouts", "001", "run-1", listed("a", "b"))
    grown.publish("rollouts", "001", "run-2", listed("b"))
    found = grown.rows("SELECT iteration, generation, rollout_id FROM current_trees")
    assert found == [{"iteration": "001", "generation": 2, "rollout_id": "b"}]


def test_a_run_is_recorded_once_with_settings_versions_and_seed(warehouse: Warehouse) -> None:
    settings = Settings(profile="quickstart", seed=7)
    for _ in range(2):
        warehouse.record_run(record_of("run-1", settings))
    (run,) = warehouse.rows("SELECT * FROM runs")
    assert (run["seed"], run["settings_digest"]) == (7, settings.digest)
    assert Settings.model_validate(json.loads(run["settings"])) == settings
    assert json.loads(run["packages"])["duckdb"] == duckdb.__version__


def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "josh.duckdb"
    path.write_text("this is not a database " * 100)
    with pytest.raises(UserError, match="cannot be opened"):
        Warehouse(path, LAYOUT)
    assert path.read_text().startswith("this is not")


def test_processes_that_write_at_once_wait_for_each_other(grown: Warehouse) -> None:
    program = (
        "import sys, polars as pl\nfrom pathlib import Path\n"
        "from josh_pipeline.stages.registry import LAYOUT\n"
        "from josh_pipeline.store.warehouse import Warehouse\n"
        "w = Warehouse(Path(sys.argv[1]), LAYOUT)\n"
        "for i in range(10):\n"
        "    frame = pl.DataFrame({'rollout_id': ['a'], 'position': [i]})\n"
        "    w.publish('rollouts', sys.argv[2], 'r', {'rollouts': frame})"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", program, str(grown.path), scope]) for scope in ("001", "002", "001")
    ]
    assert [child.wait(timeout=60) for child in children] == [0, 0, 0]
    counts = grown.rows("SELECT iteration, max(generation) AS g, count(*) AS n FROM rollouts GROUP BY 1 ORDER BY 1")
    assert [(c["g"], c["n"]) for c in counts] == [(20, 20), (10, 10)]
