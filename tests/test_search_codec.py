import json
from dataclasses import asdict
from pathlib import Path

import polars as pl
import pytest
from fakes import ScriptedPolicy, TinyUser, choosing, grow, said

from josh_pipeline.harvest.harvest import harvest, harvest_unfiltered
from josh_pipeline.harvest.rows import Kind, row_from_record, row_record
from josh_pipeline.search.codec import node_records, tree_from_records, tree_record, trees_from_records
from josh_pipeline.search.tree import Tree
from josh_pipeline.stages.registry import LAYOUT
from josh_pipeline.store.warehouse import Warehouse

MIXED = choosing("GET a", "GET b", "GET a b", "GET x", "?", "hello", "wéll ☃", "hm")

KINDS: dict[str, Kind] = {"sft": "conversations", "kto": "messages", "dpo": "pairs"}
MARKS = {"run_id": "run", "simulated_user": "tiny"}


def some_trees() -> list[Tree]:
    return [
        *(grow(ScriptedPolicy(MIXED), goal=f"goal {seed}", seed=seed, max_rounds=5) for seed in range(4)),
        grow(said(), goal="silent", user=TinyUser(fails_at=0)),
        grow(said("GET a", "here"), goal="cut", user=TinyUser(fails_at=1)),
    ]


@pytest.mark.parametrize("tree", some_trees(), ids=lambda tree: tree.rollout_id)
def test_a_tree_comes_back_from_its_records_as_it_was(tree):
    assert tree_from_records(tree_record(tree), reversed(node_records(tree))) == tree


def test_trees_come_back_from_the_store_as_they_were(tmp_path: Path):
    trees = some_trees()
    warehouse = Warehouse(tmp_path / "store.duckdb", LAYOUT)
    nodes = pl.DataFrame([r for t in trees for r in node_records(t)], infer_schema_length=None)
    rows = pl.DataFrame([tree_record(t) | MARKS for t in trees], infer_schema_length=None)
    warehouse.append({"trees": rows, "nodes": nodes}, key="rollout_id")
    stored = {row["rollout_id"]: row for row in warehouse.rows("SELECT * FROM trees")}
    back = trees_from_records([stored[t.rollout_id] for t in trees], warehouse.rows("SELECT * FROM nodes"))
    assert list(back) == trees


@pytest.mark.parametrize("method", ["sft", "kto", "dpo"])
def test_rows_come_back_from_their_records_as_they_were(method):
    trees = [grow(ScriptedPolicy(MIXED), goal=f"goal {seed}", seed=seed) for seed in range(6)]
    rows = harvest(trees, method, KINDS[method], "partial", frozenset()).rows
    assert rows
    assert [row_from_record(row_record(row)) for row in rows] == list(rows)
    assert [row_record(row)["row_id"] for row in rows] == [row.row_id for row in rows]


def test_rows_and_links_fit_their_tables(tmp_path: Path):
    trees = [grow(ScriptedPolicy(MIXED), goal=f"goal {seed}", seed=seed) for seed in range(6)]
    results = [harvest(trees, method, KINDS[method], "partial", frozenset()) for method in KINDS]
    results.append(harvest_unfiltered(trees, 3, 0, frozenset()))
    rows = {row.row_id: row for result in results for row in result.rows}
    links = [asdict(origin) for result in results for origin in result.origins]
    warehouse = Warehouse(tmp_path / "store.duckdb", LAYOUT)
    records = [row_record(row) | {"position": n} for n, row in enumerate(rows.values())]
    frame = pl.DataFrame(records, infer_schema_length=None)
    tables = {"preference_rows": frame, "row_nodes": pl.DataFrame(links)}
    warehouse.publish("preferences", "001", "run", tables)
    stored = warehouse.rows("SELECT * FROM current_preference_rows")
    assert {row["row_id"]: row_from_record(row) for row in stored} == rows
    assert len(warehouse.rows("SELECT * FROM current_row_nodes")) == len(links)


def test_arguments_keep_the_order_in_which_the_agent_wrote_them():
    tree = grow(said("GET a", "here"))
    (record,) = [r for r in node_records(tree) if json.loads(r["path"]) == [0]]
    swapped = record["messages"].replace('{"prize":"a"}', '{"z":1,"a":2}')
    back = tree_from_records(tree_record(tree), [record | {"messages": swapped}])
    assert list(back.nodes[0].messages[0].tool_calls[0].arguments) == ["z", "a"]
