"""Older stores are brought to this release's schema; those of no release and newer ones are refused."""

from pathlib import Path

import duckdb
import pytest

from josh_pipeline.core.errors import UserError
from josh_pipeline.settings import Settings
from josh_pipeline.stages.registry import LAYOUT
from josh_pipeline.store import schema
from josh_pipeline.store.layout import CONTENT_KEYS
from josh_pipeline.store.run_record import record_of
from josh_pipeline.store.schema import columns
from josh_pipeline.store.warehouse import Warehouse

NEXT = schema.SCHEMA_VERSION + 1
ADDS_A_COLUMN = "ALTER TABLE corpora ADD COLUMN language VARCHAR"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A store of this release, with a run, to be opened by the next one."""
    warehouse = Warehouse(tmp_path / "josh.duckdb", LAYOUT)
    warehouse.record_run(record_of("run-1", Settings(profile="quickstart")))
    return warehouse.path


@pytest.fixture
def migrations(old: Path, monkeypatch: pytest.MonkeyPatch) -> dict[int, str]:
    """The migrations of a made-up next release, to be changed; the old store is there already."""
    assert old.is_file()
    steps = {NEXT: ADDS_A_COLUMN}
    monkeypatch.setattr(schema, "SCHEMA_VERSION", NEXT)
    monkeypatch.setattr(schema, "migration", lambda version: steps[version])
    return steps


@pytest.mark.usefixtures("migrations")
def test_an_older_store_opens_with_its_rows_and_with_the_new_column_in_tables_and_views(old: Path) -> None:
    migrated = Warehouse(old, LAYOUT)
    assert migrated.rows("SELECT schema_version FROM meta") == [{"schema_version": NEXT}]
    assert migrated.rows("SELECT language FROM current_corpora") == []
    assert migrated.rows("SELECT run_id FROM runs") == [{"run_id": "run-1"}]
    assert Warehouse(old, LAYOUT).rows("SELECT schema_version FROM meta") == [{"schema_version": NEXT}]


@pytest.mark.usefixtures("migrations")
def test_a_copy_of_the_old_store_is_put_beside_it_first(old: Path) -> None:
    Warehouse(old, LAYOUT)
    backup = schema.backup_path(old, NEXT - 1)
    with duckdb.connect(backup, read_only=True) as connection:
        assert connection.execute("SELECT schema_version FROM meta").fetchall() == [(NEXT - 1,)]
        assert connection.execute("SELECT run_id FROM runs").fetchall() == [("run-1",)]
        assert connection.execute("SELECT count(*) FROM current_trees").fetchall() == [(0,)]
    assert sorted(path.name for path in old.parent.glob("*.duckdb*")) == [old.name, backup.name]


def test_every_version_between_is_gone_through(
    old: Path, migrations: dict[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "SCHEMA_VERSION", NEXT + 1)
    migrations[NEXT + 1] = "ALTER TABLE corpora RENAME COLUMN language TO tongue"
    assert Warehouse(old, LAYOUT).rows("SELECT tongue FROM corpora") == []


def test_a_migration_that_fails_leaves_the_old_store_as_it_was(old: Path, migrations: dict[int, str]) -> None:
    migrations[NEXT] += "; ALTER TABLE nowhere ADD COLUMN language VARCHAR"
    with pytest.raises(duckdb.Error):
        Warehouse(old, LAYOUT)
    with duckdb.connect(old) as connection:
        assert connection.execute("SELECT schema_version FROM meta").fetchall() == [(NEXT - 1,)]
        assert connection.execute("SELECT count(*) FROM current_trees").fetchall() == [(0,)]


@pytest.mark.parametrize(
    ("version", "advice"), [(2, "from before the first release: use a new --home"), (99, "the release that")]
)
def test_a_store_of_no_release_or_of_a_later_one_is_refused_and_left_alone(
    old: Path, version: int, advice: str
) -> None:
    with duckdb.connect(old) as connection:
        connection.execute(f"UPDATE meta SET schema_version = {version}")
    with pytest.raises(UserError, match=f"schema version {version}.*{advice}"):
        Warehouse(old, LAYOUT)
    assert [found.name for found in old.parent.iterdir()] == [old.name]


def test_every_table_is_written_by_one_stage_or_named_by_content_and_has_its_keys_and_a_digest() -> None:
    assert columns().keys() - {"meta", "generations"} == set(LAYOUT.tables)
    assert len(LAYOUT.tables) == len(set(LAYOUT.tables))
    for table in LAYOUT.tables:
        names = {column.name for column in columns()[table]}
        stage = LAYOUT.stage_of(table)
        owned = {stage.scope, "generation"} if stage is not None else set()
        assert names >= {*LAYOUT.keys(table), *owned, "digest"}
        assert (table in CONTENT_KEYS) is (stage is None)
    for stage, members in LAYOUT.member_lists.items():
        assert members.table in LAYOUT.stages[stage].tables
        listed = {column.name for column in columns()[members.table]}
        assert listed >= {members.key, members.digest}


def test_a_store_with_the_views_of_another_release_gets_those_of_this_one_and_keeps_them(old: Path) -> None:
    with duckdb.connect(old) as connection:
        connection.execute("DROP VIEW standing_generations")
        connection.execute("CREATE OR REPLACE VIEW current_trees AS SELECT 1 AS gone")
    assert (
        Warehouse(old, LAYOUT).rows(
            "SELECT rollout_id FROM current_trees UNION ALL SELECT scope FROM standing_generations"
        )
        == []
    )
    made = "SELECT view_name, view_oid FROM duckdb_views() WHERE NOT internal ORDER BY ALL"
    assert Warehouse(old, LAYOUT).rows(made) == Warehouse(old, LAYOUT).rows(made), "made once, not at every opening"
