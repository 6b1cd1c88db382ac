"""Older stores: one numbered file of SQL a version, all in one transaction, after a copy was put beside."""

from pathlib import Path

import duckdb

from josh_pipeline.core.errors import UserError
from josh_pipeline.store.schema import SCHEMA_VERSION, text_of, view_statements


def refuse_newer(path: Path, version: int) -> None:
    """Refuse a store that a later release wrote.

    Raises:
        UserError: it is newer than ``SCHEMA_VERSION``.
    """
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


def migrate(connection: duckdb.DuckDBPyConnection, version: int) -> None:
    """Bring the tables of an older store to this release's, inside the caller's transaction."""
    for (view,) in connection.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall():
        connection.execute(f'DROP VIEW "{view}"')
    for step in range(version + 1, SCHEMA_VERSION + 1):
        connection.execute(text_of(f"migrations/{step:04d}.sql"))
    for statement in view_statements():
        connection.execute(statement)
    connection.execute("UPDATE meta SET schema_version = ?", [SCHEMA_VERSION])
