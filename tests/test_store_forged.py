"""What somebody put into a store's file cannot falsify what is read of it: it is named, or it is gone."""

import json
import sqlite3
from pathlib import Path

import duckdb
import polars as pl
import pytest
from finished_home import copied

from assets.cli import run as main
from josh_pipeline.core.errors import UserError
from josh_pipeline.store.home import Home
from josh_pipeline.store.warehouse import Warehouse


@pytest.fixture
def home(finished: Home, tmp_path: Path) -> Home:
    return copied(finished, tmp_path)


def forge(home: Home, *statements: str) -> None:
    with duckdb.connect(home.store) as connection:
        for statement in statements:
            connection.execute(statement)


def refused(home: Home, capsys: pytest.CaptureFixture[str], *names: str) -> None:
    """Assert that whatever opens the store refuses it with one sentence that has these words."""
    for command in ("audit", "scores"):
        capsys.readouterr()
        assert main([command, "--home", str(home.root)]) == 1
        said = capsys.readouterr()
        assert said.out == "" and len(said.err.splitlines()) == 1
        assert all(name in said.err for name in (*names, "drop it, or restore the store")), said.err


@pytest.mark.parametrize(
    "macro",
    [
        "sha256(x) AS 'ca978112ca1bbdca'",
        "\"left\"(x, n) AS 'same'",
        "concat(a, b) AS 'same'",
        "\"||\"(a, b) AS 'same'",
        "string_agg(a, b) AS 'same'",
        "duckdb_functions() AS TABLE SELECT 1 AS function_name, true AS internal WHERE false",
        "avg(x) AS 1.0",
    ],
)
def test_a_macro_with_the_name_of_a_function_is_named(
    macro: str, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    forge(home, f"CREATE MACRO {macro}", "UPDATE evaluations SET mean_reward = 1, success_rate = 1")
    refused(home, capsys, f"the function {macro.partition('(')[0].replace(chr(34), '')!r}")


@pytest.mark.parametrize(
    ("statements", "name"),
    [
        (["CREATE TYPE score AS ENUM ('a')"], "the type 'score'"),
        (["CREATE VIEW extra AS SELECT 1"], "the view 'extra'"),
        (["CREATE TABLE extra(a INTEGER)"], "the table 'extra'"),
        (["ALTER TABLE drifts RENAME TO hidden", "CREATE VIEW drifts AS FROM hidden"], "the view 'drifts'"),
        (["ALTER TABLE meta RENAME TO hidden", "CREATE VIEW meta AS SELECT 3 AS schema_version"], "the view 'meta'"),
        (["DROP VIEW current_drifts", "CREATE TABLE current_drifts AS FROM drifts"], "the table 'current_drifts'"),
        (["CREATE VIEW duckdb_views AS SELECT 'x' AS view_name, '' AS sql"], "the view 'duckdb_views'"),
        (
            ["CREATE TRIGGER more AFTER INSERT ON runs FOR EACH STATEMENT INSERT INTO meta VALUES (1, now())"],
            "the trigger 'more'",
        ),
    ],
)
def test_what_no_release_makes_is_named(
    statements: list[str], name: str, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    forge(home, *statements)
    refused(home, capsys, name)


def scores(home: Home, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["scores", "--json", "--home", str(home.root)]) == 0
    return capsys.readouterr().out


def test_a_view_that_was_replaced_is_made_anew_before_anything_is_read(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = scores(home, capsys)
    secret = tmp_path / "secret.txt"
    secret.write_text("planted-file-1")
    better = "SELECT * REPLACE (1.0 AS mean_reward, 1.0 AS success_rate) FROM evaluations"
    reads = f"SELECT * REPLACE ((SELECT content FROM read_text('{secret}')) AS reason) FROM promotions"
    comment = duckdb_comment(home)
    forge(
        home,
        f"CREATE OR REPLACE VIEW current_evaluations AS {better}",
        f"CREATE OR REPLACE VIEW standing_evaluations AS {better}",
        f"CREATE OR REPLACE VIEW current_promotions AS {reads}",
        f"COMMENT ON VIEW standing_generations IS {comment}",
    )
    assert scores(home, capsys) == before
    assert main(["export", "--home", str(home.root), "--out", str(tmp_path / "out")]) == 0
    assert main(["report", "--home", str(home.root)]) == 0
    exported = [
        json.dumps(pl.read_parquet(path).to_dicts(), default=str) for path in (tmp_path / "out").rglob("*.parquet")
    ]
    pages = [path.read_text() for path in home.reports.iterdir()]
    assert len(exported) > 20 and pages and not any("planted-file-1" in one for one in (*exported, *pages))


def duckdb_comment(home: Home) -> str:
    """What the store says of its views, as a literal: a forger leaves it as it is."""
    with duckdb.connect(home.store) as connection:
        found = connection.execute("SELECT comment FROM duckdb_views() WHERE view_name = 'standing_generations'")
        return f"'{found.fetchall()[0][0]}'"


@pytest.mark.parametrize(
    "sql",
    [
        "FROM read_text('/etc/hostname')",
        "COPY runs TO '/tmp/josh-forged.csv'",
        "ATTACH '/tmp/josh-forged.duckdb'",
        "INSTALL sqlite",
        "SET enable_external_access = true",
    ],
)
def test_nothing_in_a_store_reaches_another_file(sql: str, finished: Home) -> None:
    with finished.warehouse().connection() as connection, pytest.raises(duckdb.Error, match=r"disabled|locked"):
        connection.execute(sql)


def test_a_file_of_another_format_makes_duckdb_fetch_nothing(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    home.store.unlink()
    with sqlite3.connect(home.store) as connection:
        connection.execute("CREATE TABLE meta(schema_version INTEGER)")
    assert main(["audit", "--home", str(home.root)]) == 1
    said = capsys.readouterr().err
    assert "cannot be opened (Permission Error: Loading external extensions is disabled" in said, said


def test_digests_are_computed_by_duckdbs_own_functions_whatever_the_store_holds(home: Home) -> None:
    from josh_pipeline.store.digests import altered_rows

    warehouse = home.warehouse()
    forge(home, *(f"CREATE MACRO {name} AS 'x'" for name in ("sha256(a)", "concat(a, b)", "strlen(a)", "chr(a)")))
    with duckdb.connect(home.store) as connection:
        assert [table for table in home.layout.tables if altered_rows(connection, home.layout, table)] == []
        connection.execute("UPDATE evaluations SET mean_reward = mean_reward + 1")
        assert altered_rows(connection, home.layout, "evaluations")
    with pytest.raises(UserError, match="the function"):
        Warehouse(warehouse.path, warehouse.layout)
