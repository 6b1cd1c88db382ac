"""Older stores are brought to this release's schema; newer ones are refused."""

from pathlib import Path

import duckdb
import pytest
from josh_pipeline.store.migrate import backup_path

from josh_pipeline.core.errors import UserError
from josh_pipeline.store.schema import ROW_KEYS, SCHEMA_VERSION, STAGE_TABLES
from josh_pipeline.store.warehouse import Warehouse

VERSION_1 = Path(__file__).parent / "store_version_1.sql"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "josh.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute(VERSION_1.read_text())
    return path


def shape(warehouse: Warehouse, of: str, columns: str) -> set[tuple[object, ...]]:
    rows = warehouse.rows(f"SELECT {columns} FROM {of} WHERE NOT internal")
    return {tuple(row.values()) for row in rows}


def test_a_store_of_version_1_opens_with_its_rows_and_this_release_s_shape(old: Path, tmp_path: Path) -> None:
    migrated, new = Warehouse(old), Warehouse(tmp_path / "new.duckdb")
    assert migrated.rows("SELECT schema_version FROM meta") == [{"schema_version": SCHEMA_VERSION}]
    for of, columns in (
        ("duckdb_columns()", "table_name, column_name, data_type"),
        ("duckdb_views()", "view_name, sql"),
    ):
        assert shape(migrated, of, columns) == shape(new, of, columns)
    tree = migrated.rows("SELECT * FROM current_trees")[0]
    assert (tree["rollout_id"], tree["reward"], tree["requests"]) == ("t1", 1.0, 3)
    assert migrated.rows("SELECT episode_id FROM current_episodes") == [{"episode_id": "e1"}]


def test_a_copy_of_the_old_store_is_put_beside_it_first(old: Path) -> None:
    Warehouse(old)
    backup = backup_path(old, 1)
    with duckdb.connect(backup, read_only=True) as connection:
        assert connection.execute("SELECT schema_version FROM meta").fetchall() == [(1,)]
        assert connection.execute("SELECT node_id FROM nodes").fetchall() == [("n0",)]
        assert connection.execute("SELECT rollout_id FROM current_trees").fetchall() == [("t1",)]
    assert sorted(path.name for path in old.parent.glob("*.duckdb*")) == [old.name, backup.name]


def test_a_migration_that_fails_leaves_the_old_store_as_it_was(old: Path) -> None:
    with duckdb.connect(old) as connection:
        connection.execute("CREATE TABLE seals (in_the_way INTEGER)")
    with pytest.raises(duckdb.Error):
        Warehouse(old)
    with duckdb.connect(old) as connection:
        assert connection.execute("SELECT schema_version FROM meta").fetchall() == [(1,)]
        assert connection.execute("SELECT count(*) FROM current_trees").fetchall() == [(1,)]


def test_what_was_written_before_seals_is_unsealed_and_what_comes_after_is_sealed(old: Path) -> None:
    warehouse = Warehouse(old)
    assert warehouse.rows("SELECT count(digest) AS n FROM generations") == [{"n": 0}]
    warehouse.publish("rollouts", "001", "run-2", {})
    sealed = warehouse.rows("SELECT generation, digest IS NOT NULL AS sealed FROM generations ORDER BY ALL")
    assert [(row["generation"], row["sealed"]) for row in sealed] == [(1, False), (1, False), (2, True)]


def test_a_store_of_a_later_release_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = Warehouse(tmp_path / "josh.duckdb").path
    with duckdb.connect(path) as connection:
        connection.execute("UPDATE meta SET schema_version = 99")
    with pytest.raises(UserError, match=r"schema version 99.*use the release that wrote it"):
        Warehouse(path)
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_every_table_has_a_key_by_which_the_audit_names_its_rows(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "josh.duckdb")
    tables = {row["table_name"] for row in warehouse.rows("SELECT table_name FROM duckdb_tables()")}
    assert tables - {"meta", "generations", "seals"} == set(ROW_KEYS)
    assert {table for tables in STAGE_TABLES.values() for table in tables} <= set(ROW_KEYS)
    for table, keys in ROW_KEYS.items():
        columns = {row["name"] for row in warehouse.rows(f"SELECT name FROM pragma_table_info('{table}')")}
        assert set(keys) <= columns
