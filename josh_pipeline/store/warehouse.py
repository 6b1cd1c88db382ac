"""The store's file: explicit SQL on short connections, one transaction a write.

A DuckDB file admits one process at a time, readers included. So a connection is opened for one
query or one write and closed at once, and a locked file is waited for.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.ids import canonical_json
from josh_pipeline.store.migrate import back_up, migrate, refuse_newer
from josh_pipeline.store.run_record import RunRecord
from josh_pipeline.store.schema import SCHEMA_VERSION, STAGE_TABLES, scope_column, statements
from josh_pipeline.store.seals import seal_content, seal_generation, seal_run

LOCK_PATIENCE_S = 120.0
"""How long a locked file is waited for: the longest writes (a million nodes) take seconds."""
LOCK_PAUSE_S = (0.01, 0.12)
"""A random wait in this range between tries, so that waiting processes do not march in step."""


@dataclass(frozen=True)
class Generation:
    """One written version of a stage's rows."""

    stage: str
    scope: str
    number: int

    @property
    def key(self) -> str:
        """The name under which another generation lists it as an input."""
        return f"{self.stage}/{self.scope}"


class Warehouse:
    """All reading and writing of one store.

    Args:
        path: the DuckDB file; made with its tables where it does not exist, brought to this release's
            schema where an older release wrote it (a copy of the old one is put beside it first).

    Raises:
        UserError: the file cannot be opened, is no store, or a later release wrote it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self.connection() as connection:
            with transaction(connection):
                known = connection.execute(
                    "SELECT count(*) FROM information_schema.tables WHERE table_name = 'meta'"
                ).fetchall()[0][0]
                if not known:
                    for statement in statements():
                        connection.execute(statement)
                    connection.execute("INSERT INTO meta VALUES (?, ?)", [SCHEMA_VERSION, datetime.now(UTC)])
                version = connection.execute("SELECT schema_version FROM meta").fetchall()[0][0]
            refuse_newer(path, version)
            if version < SCHEMA_VERSION:
                back_up(connection, path, version)
                with transaction(connection):
                    migrate(connection, version)

    @contextmanager
    def connection(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the file for a moment, waiting while another process has it open.

        Raises:
            UserError: the file stays locked, or cannot be opened.
        """
        deadline = time.monotonic() + LOCK_PATIENCE_S
        while True:
            try:
                connection = duckdb.connect(self.path)
                break
            except duckdb.IOException as fault:
                if "lock" not in str(fault).lower():
                    raise UserError(f"The store {self.path} cannot be opened: {first_line(fault)}.") from None
                if time.monotonic() > deadline:
                    raise UserError(
                        f"The store {self.path} has been in use by another process for "
                        f"{LOCK_PATIENCE_S:.0f} s: close what holds it open and try again."
                    ) from None
                time.sleep(random.uniform(*LOCK_PAUSE_S))
        try:
            yield connection
        finally:
            connection.close()

    def query(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> pl.DataFrame:
        """Run one SELECT and return its rows; JSON columns come as text."""
        with self.connection() as connection:
            table = connection.sql(sql, params=parameters or None).to_arrow_table()
        frame = pl.from_arrow(plain(table))
        assert isinstance(frame, pl.DataFrame)
        return frame

    def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[dict[str, Any]]:
        """Run one SELECT and return a dictionary a row."""
        return self.query(sql, parameters).to_dicts()

    def record_run(self, run: RunRecord) -> None:
        """Keep a run's settings, versions and commit; a run that is known stays as it is."""
        with self.connection() as connection, transaction(connection):
            known = connection.execute("SELECT 1 FROM runs WHERE run_id = ?", [run.run_id]).fetchall()
            if known:
                return
            connection.execute(
                "INSERT INTO runs BY NAME SELECT ? AS run_id, ? AS started_at, ? AS profile, ? AS seed, "
                "? AS settings_digest, ? AS settings, ? AS packages, ? AS git_commit",
                [
                    run.run_id,
                    run.started_at,
                    run.profile,
                    run.seed,
                    run.settings_digest,
                    canonical_json(dict(run.settings)),
                    canonical_json(dict(run.packages)),
                    run.git_commit,
                ],
            )
            seal_run(connection, run.run_id)

    def publish(
        self,
        stage: str,
        scope: str,
        run_id: str,
        tables: Mapping[str, pl.DataFrame],
        inputs: Sequence[Generation] = (),
        before: Callable[[duckdb.DuckDBPyConnection], None] | None = None,
    ) -> Generation:
        """Write a new generation of a stage's tables and make it current, in one transaction.

        Args:
            stage: a key of ``STAGE_TABLES``; ``tables`` holds frames for its tables and no others.
            scope: the iteration, or the content hash that a global stage is known by.
            run_id: the run that writes it.
            tables: rows by table, without scope and generation; columns are matched by name.
            inputs: the generations that the rows were made from.
            before: further work on the same connection inside the same transaction.
        """
        unknown = set(tables) - set(STAGE_TABLES[stage])
        if unknown:
            raise ValueError(f"Stage {stage} does not write {sorted(unknown)}.")
        with self.connection() as connection, transaction(connection):
            if before is not None:
                before(connection)
            number = connection.execute(
                "SELECT coalesce(max(generation), 0) + 1 FROM generations WHERE stage = ? AND scope = ?",
                [stage, scope],
            ).fetchall()[0][0]
            for table, frame in tables.items():
                marks = [pl.lit(scope).alias(scope_column(stage)), pl.lit(number).alias("generation")]
                insert(connection, table, frame.with_columns(marks))
            made_from = {generation.key: generation.number for generation in inputs}
            content, digest = seal_generation(connection, stage, scope, number, run_id, made_from)
            connection.execute(
                "UPDATE generations SET current = false WHERE stage = ? AND scope = ? AND current",
                [stage, scope],
            )
            now = datetime.now(UTC)
            connection.execute(
                "INSERT INTO generations BY NAME SELECT ? AS stage, ? AS scope, ? AS generation, "
                "? AS run_id, true AS current, ? AS inputs, ? AS created_at, ? AS content, ? AS digest, "
                "? AS sealed_at",
                [stage, scope, number, run_id, canonical_json(made_from), now, content, digest, now],
            )
        return Generation(stage, scope, number)

    def append(self, tables: Mapping[str, pl.DataFrame], key: str) -> None:
        """Checkpoint rows that are named by content, in one transaction.

        Rows under a key that is in the store already replace what failed before and nothing else:
        a finished tree or episode never changes.

        Args:
            tables: rows by table; the first table holds one row a key, and has a column ``failure``.
            key: the id column that all the tables share.
        """
        first = next(iter(tables))
        with self.connection() as connection, transaction(connection):
            ids = pl.DataFrame({key: tables[first][key]}).to_arrow()
            connection.register("incoming_ids", ids)
            done = {
                row[0]
                for row in connection.execute(
                    f"SELECT {key} FROM {first} "
                    f"WHERE failure IS NULL AND {key} IN (SELECT {key} FROM incoming_ids)"
                ).fetchall()
            }
            connection.unregister("incoming_ids")
            for table, frame in tables.items():
                fresh = frame.filter(~pl.col(key).is_in(list(done)))
                connection.register("incoming_ids", pl.DataFrame({key: fresh[key].unique()}).to_arrow())
                connection.execute(f"DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM incoming_ids)")
                insert(connection, table, fresh)
                seal_content(connection, [table], f"SELECT {key} FROM incoming_ids")
                connection.unregister("incoming_ids")

    def current(self, stage: str, scope: str) -> Generation | None:
        """Return the current generation of a stage, None where nothing has been written."""
        found = self.rows(
            "SELECT generation FROM generations WHERE stage = ? AND scope = ? AND current", [stage, scope]
        )
        return Generation(stage, scope, found[0]["generation"]) if found else None

    def digest_of(self, generation: Generation) -> str | None:
        """Return the digest of a generation; None where it is not sealed."""
        found = self.rows(
            "SELECT digest FROM generations WHERE stage = ? AND scope = ? AND generation = ?",
            [generation.stage, generation.scope, generation.number],
        )
        return found[0]["digest"] if found else None


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit what the block did, or undo all of it."""
    connection.execute("BEGIN TRANSACTION")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def insert(connection: duckdb.DuckDBPyConnection, table: str, frame: pl.DataFrame) -> None:
    """Insert a frame's rows, columns matched by name; lists and structs are stored as JSON text."""
    if frame.is_empty():
        return
    connection.register("incoming", frame.to_arrow())
    try:
        connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming")
    finally:
        connection.unregister("incoming")


def plain(table: pa.Table) -> pa.Table:
    """Return the table with JSON columns as text and the sums of integers (128 bits) as 64 bits."""

    def cast(column: pa.ChunkedArray) -> pa.ChunkedArray:
        if isinstance(column.type, pa.BaseExtensionType):
            return column.cast(pa.string())
        if pa.types.is_decimal(column.type) and column.type.scale == 0:
            return column.cast(pa.int64())
        return column

    return pa.table({name: cast(table[name]) for name in table.column_names})


def first_line(fault: Exception) -> str:
    """The first line of an exception's text, without its full stop."""
    return str(fault).splitlines()[0].rstrip(".")
