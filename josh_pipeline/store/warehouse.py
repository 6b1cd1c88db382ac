"""The store's file: explicit SQL on short connections, one transaction a write.

A DuckDB file admits one process at a time, readers included. So a connection is opened for one
query or one write and closed at once, and a locked file is waited for.
"""

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa

from josh_pipeline.core.content import canonical_json
from josh_pipeline.core.errors import UserError
from josh_pipeline.store import schema
from josh_pipeline.store.digests import combined, generation_digest, generation_rows, with_digest
from josh_pipeline.store.layout import Layout, StageLayout

Rows = Sequence[Mapping[str, Any]] | pl.DataFrame
"""Of one table, with its columns by name: records, or a frame where there are many."""
LOCK_PATIENCE_S = 120.0
"""How long a locked file is waited for: the longest writes (a million nodes) take seconds."""
LOCK_PAUSE_S = (0.01, 0.12)
"""A random wait in this range between tries, so that waiting processes do not march in step."""

COPYING = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
"""What a store is opened with that is copied into another file: what it names never makes DuckDB fetch code."""
CLOSED = COPYING | {"enable_external_access": "false", "lock_configuration": "true"}
"""And for all else: nothing that a store holds reads or writes another file."""


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
        layout: which tables the stages write.

    Raises:
        UserError: the file cannot be opened, is no store, or is of no release that this one can read.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path = path
        self.layout = layout
        with self.connection() as connection, transaction(connection):
            version = self._version(connection)
        if version < schema.SCHEMA_VERSION:
            with self.connection(COPYING) as connection:
                version = self._version(connection)
                if version < schema.SCHEMA_VERSION:  # no other process was first
                    schema.back_up(connection, path, version)
                    with transaction(connection):
                        schema.migrate(connection, version)
        with self.connection() as connection, transaction(connection):
            schema.renew_views(path, connection, layout)

    def _version(self, connection: duckdb.DuckDBPyConnection) -> int:
        """Return the version of the store's schema, making its tables where there are none.

        Raises:
            UserError: it is no version that this release reads, or the store holds what no release makes.
        """
        schema.refuse_strange(self.path, connection)
        known = connection.execute("SELECT 1 FROM system.main.duckdb_tables() WHERE table_name = 'meta'").fetchall()
        if not known:
            connection.execute(schema.text_of("schema.sql"))
            connection.execute("INSERT INTO meta VALUES (?, ?)", [schema.SCHEMA_VERSION, datetime.now(UTC)])
        version = int(connection.execute("SELECT schema_version FROM meta").fetchall()[0][0])
        schema.refuse_other(self.path, version)
        return version

    @contextmanager
    def connection(self, allowed: Mapping[str, str] = CLOSED) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the file for a moment, waiting while another process has it open.

        Args:
            allowed: DuckDB's configuration; the same in all of a process's connections at one time.

        Raises:
            UserError: the file stays locked, or cannot be opened.
        """
        deadline = time.monotonic() + LOCK_PATIENCE_S
        while True:
            try:
                connection = duckdb.connect(self.path, config=dict(allowed))
                break
            except duckdb.Error as fault:
                if "lock" not in str(fault).lower():
                    reason = str(fault).splitlines()[0].rstrip(".!")
                    raise UserError(
                        f"The store {self.path} cannot be opened ({reason}): "
                        "mend, restore or remove it, or use another --home."
                    ) from None
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

    def record_run(self, run: Mapping[str, Any]) -> None:
        """Keep a row of ``runs``; a run that is known stays as it is."""
        with self.connection() as connection, transaction(connection):
            if not connection.execute("SELECT 1 FROM runs WHERE run_id = ?", [run["run_id"]]).fetchall():
                insert(connection, "runs", pl.DataFrame([run]))

    def publish(
        self, stage: str, scope: str, run_id: str, tables: Mapping[str, Rows], inputs: Sequence[Generation] = ()
    ) -> Generation:
        """Write a new generation of a stage's tables and make it current, in one transaction.

        Args:
            stage: of the layout; ``tables`` holds rows of its tables and no others.
            scope: the iteration, or the content hash that a global stage is known by.
            run_id: the run that writes it.
            tables: rows by table, without scope, generation and digests.
            inputs: the generations that the rows were made from, of stages that this one declares.
        """
        layout = self.layout.stages[stage]
        unknown = set(tables) - set(layout.tables)
        if unknown:
            raise ValueError(f"Stage {stage} does not write {sorted(unknown)}.")
        undeclared = {one.stage for one in inputs} - {*layout.inputs, *layout.earlier}
        if undeclared:
            raise ValueError(f"Stage {stage} does not declare that it reads {sorted(undeclared)}.")
        with self.connection() as connection, transaction(connection):
            number = connection.execute(
                "SELECT coalesce(max(generation), 0) + 1 FROM generations WHERE stage = ? AND scope = ?", [stage, scope]
            ).fetchall()[0][0]
            marks = [pl.lit(scope).alias(layout.scope), pl.lit(number).alias("generation")]
            for table, rows in tables.items():
                if len(rows):
                    insert(connection, table, committed(connection, layout, table, frame_of(rows).with_columns(marks)))
            made_from = {generation.key: generation.number for generation in inputs}
            counts, content = generation_rows(connection, layout, scope, number)
            digest = generation_digest(connection, stage, scope, number, run_id, made_from, content)
            connection.execute(
                "UPDATE generations SET current = false WHERE stage = ? AND scope = ? AND current", [stage, scope]
            )
            connection.execute(
                "INSERT INTO generations BY NAME SELECT ? AS stage, ? AS scope, ? AS generation, "
                "? AS run_id, true AS current, ? AS inputs, ? AS created_at, ? AS rows, ? AS content, "
                "? AS digest",
                [stage, scope, number, run_id, canonical_json(made_from), datetime.now(UTC),
                 canonical_json(counts), content, digest],
            )  # fmt: skip
        return Generation(stage, scope, number)

    def append(self, tables: Mapping[str, Rows], key: str) -> None:
        """Checkpoint rows that are named by content, in one transaction; those that are there stay.

        Args:
            tables: rows by table: first that with one row a key, then that of their parts.
            key: the id column that all the tables share.
        """
        (head, rows), *parts = ((table, frame_of(given)) for table, given in tables.items())
        with self.connection() as connection, transaction(connection):
            rows = _unknown(connection, head, rows, key)
            for table, frame in parts:
                digests = _insert_parts(connection, table, frame.join(rows.select(key), on=key, how="semi"), key)
                rows = rows.join(digests, on=key, how="left")
            insert(connection, head, rows)

    def current(self, stage: str, scope: str) -> Generation | None:
        """Return the current generation of a stage, None where nothing has been written."""
        found = self.rows(
            "SELECT generation FROM generations WHERE stage = ? AND scope = ? AND current", [stage, scope]
        )
        return Generation(stage, scope, found[0]["generation"]) if found else None

    def written(self, table: str, generation: Generation, order: str = "ALL") -> list[dict[str, Any]]:
        """Return a generation's rows of a table of its stage, whatever has become current since."""
        return self.rows(
            f"SELECT * FROM {table} WHERE {self.layout.stages[generation.stage].scope} = ? "
            f"AND generation = ? ORDER BY {order}",
            [generation.scope, generation.number],
        )

    def digest_of(self, generation: Generation) -> str:
        """Return the digest of a generation: of its rows, and of all that they were made from."""
        return str(self._record(generation)["digest"])

    def content_of(self, generation: Generation) -> str:
        """Return the digest of a generation's rows, which a rerun that writes the same rows has too."""
        return str(self._record(generation)["content"])

    def _record(self, generation: Generation) -> dict[str, Any]:
        return self.rows(
            "SELECT * FROM generations WHERE stage = ? AND scope = ? AND generation = ?",
            [generation.stage, generation.scope, generation.number],
        )[0]


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


def frame_of(rows: Rows) -> pl.DataFrame:
    """Return rows as a frame; the tables of the store say what type a column is that holds nothing."""
    return pl.DataFrame(rows, infer_schema_length=None)


def insert(connection: duckdb.DuckDBPyConnection, table: str, frame: pl.DataFrame) -> None:
    """Insert a frame's rows with their digests, columns matched by name.

    Raises:
        ValueError: the frame has a column that the table has not.
    """
    if not frame.is_empty():
        with _offered(connection, frame):
            connection.execute(f"INSERT INTO {table} BY NAME {with_digest(table, frame.columns)}")


def committed(
    connection: duckdb.DuckDBPyConnection, layout: StageLayout, table: str, frame: pl.DataFrame
) -> pl.DataFrame:
    """Return the rows of a stage's table, a list of trees or conversations with the digest of each."""
    members = layout.members
    if members is None or table != members.table:
        return frame
    with _offered(connection, frame):
        found = connection.sql(
            f"SELECT i.*, m.digest AS {members.digest} FROM incoming i LEFT JOIN {members.head} m USING ({members.key})"
        ).to_arrow_table()
    return pl.DataFrame(pl.from_arrow(plain(found)))


def _unknown(connection: duckdb.DuckDBPyConnection, table: str, frame: pl.DataFrame, key: str) -> pl.DataFrame:
    """Return the rows whose key the table has not."""
    with _offered(connection, frame.select(key)):
        known = connection.execute(f"SELECT {key} FROM {table} WHERE {key} IN (SELECT {key} FROM incoming)").fetchall()
    return frame.filter(~pl.col(key).is_in([row[0] for row in known]))


def _insert_parts(connection: duckdb.DuckDBPyConnection, table: str, frame: pl.DataFrame, key: str) -> pl.DataFrame:
    """Insert rows; return the digest of all that share a key, in the column ``<table>_digest``."""
    name = f"{table.removesuffix('s')}_id"
    with _offered(connection, frame):
        written = connection.sql(
            f"INSERT INTO {table} BY NAME {with_digest(table, frame.columns)} RETURNING {key}, {name}, digest"
        ).to_arrow_table()
    digests = connection.from_arrow(written).aggregate(f"{key}, {combined(name)} AS {table}_digest", key)
    return pl.DataFrame(pl.from_arrow(digests.to_arrow_table()))


@contextmanager
def _offered(connection: duckdb.DuckDBPyConnection, frame: pl.DataFrame) -> Iterator[None]:
    """Let SQL read a frame as the table ``incoming``; after an error the connection is closed soon."""
    connection.register("incoming", frame.to_arrow())
    yield
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
