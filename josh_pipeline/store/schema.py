"""The SQL that makes a store, and that brings one of an older release to this one's schema."""

from importlib.resources import files
from pathlib import Path

import duckdb

from josh_pipeline.core.errors import UserError
from josh_pipeline.store.layout import Layout

FIRST_VERSION = 3
"""Stores of before were written by no release."""
SCHEMA_VERSION = 3
"""Raised with every released change of schema.sql: an older store is migrated, a newer one refused."""


def statements(layout: Layout) -> tuple[str, ...]:
    """Return the SQL that makes an empty store."""
    return (text_of("schema.sql"), *view_statements(layout))


def view_statements(layout: Layout) -> tuple[str, ...]:
    """Return the SQL that makes the views, or makes them anew."""
    current = (
        f"CREATE OR REPLACE VIEW current_{table} AS SELECT t.* FROM {table} t JOIN generations g "
        f"ON g.stage = '{stage.name}' AND g.scope = t.{stage.scope} "
        "AND g.generation = t.generation AND g.current"
        for stage in layout.stages.values()
        for table in stage.tables
    )
    return (*current, text_of("views.sql"))


def text_of(name: str) -> str:
    """Text of a file beside this one."""
    return (files("josh_pipeline.store") / name).read_text()


def migration(version: int) -> str:
    """Return the SQL that brings the tables of the version before to this one."""
    return text_of(f"migrations/{version:04d}.sql")


def refuse_other(path: Path, version: int) -> None:
    """Refuse a store that this release cannot bring to its schema.

    Raises:
        UserError: no release wrote it, or a later one did.
    """
    if version < FIRST_VERSION:
        raise UserError(
            f"The store {path} has schema version {version}, from before the first release: use a new --home."
        )
    if version > SCHEMA_VERSION:
        raise UserError(
            f"The store {path} has schema version {version}, this release reads up to {SCHEMA_VERSION}: "
            "use the release that wrote it, or another --home."
        )


def backup_path(path: Path, version: int) -> Path:
    """Where the copy of a store is kept that is about to be migrated."""
    return path.with_name(f"{path.stem}.version-{version}{path.suffix}")


def back_up(connection: duckdb.DuckDBPyConnection, path: Path, version: int) -> Path:
    """Copy the open store beside itself, whole or not at all.

    DuckDB copies it over the connection that holds the lock: a copy of the file would miss what is still
    in the write-ahead log, and closing the file would give up the lock.
    """
    place = backup_path(path, version)
    partial = place.with_name(place.name + ".partial")
    partial.unlink(missing_ok=True)
    name = connection.execute("SELECT current_database()").fetchall()[0][0]
    connection.execute(f"ATTACH '{str(partial).replace(chr(39), chr(39) * 2)}' AS backup")
    try:
        connection.execute(f'COPY FROM DATABASE "{name}" TO backup')
    finally:
        connection.execute("DETACH backup")
    partial.replace(place)
    return place


def migrate(connection: duckdb.DuckDBPyConnection, version: int, layout: Layout) -> None:
    """Bring the tables of an older store to this release's, inside the caller's transaction."""
    for (view,) in connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall():
        connection.execute(f'DROP VIEW "{view}"')
    for step in range(version + 1, SCHEMA_VERSION + 1):
        connection.execute(migration(step))
    for statement in view_statements(layout):
        connection.execute(statement)
    connection.execute("UPDATE meta SET schema_version = ?", [SCHEMA_VERSION])
