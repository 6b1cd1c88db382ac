"""The SQL that makes a store, what its columns hold, and how an older store is brought up to date."""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import duckdb

from josh_pipeline.core.errors import UserError, quoted
from josh_pipeline.store.layout import Layout, StageLayout

COMMON = {
    "scope": "content hash of the settings that the row depends on",
    "generation": "which run of the step wrote the row, counted from 1 within its scope",
    "iteration": "partition key of the iteration",
    "corpus_digest": "content hash of the corpus that was read",
    "source_id": "what a task was derived from, as its corpus names it",
    "goal_id": "content hash of all that a task is",
    "rollout_id": "content hash of policy, goal, seed, settings and retry: names a tree",
    "node_id": "content hash of the tree and the path in it: names an agent's turn",
    "row_id": "content hash of method, prompt, sides and labels: names a training row",
    "episode_id": "content hash of policy, goal, seed, settings and retry: names a conversation",
    "policy_digest": "content hash of the base and the adapter",
    "base_digest": "content hash of the base's weights",
    "adapter_digest": "content hash of the adapter's weights; null where there is none",
    "settings_digest": "content hash of the settings that shaped it",
    "run_id": "the run that wrote it: table runs",
    "seed": "the seed that it was drawn with",
    "split": "the corpus's own list: train, val or test",
    "role": "what the loop does with the goal: train is harvested, val gates promotion, test is shown",
    "kind": "kind of task; scores of different kinds never mix",
    "goal_kind": "kind of task; scores of different kinds never mix",
    "collection": "where it is looked up, e.g. a table of a database",
    "reward": "what the conversation was worth, 0 to 1",
    "success": "whether the full reward was earned",
    "earned": "ids of the milestones that were earned",
    "golden": "whether it lies on the path that the tree collapsed to",
    "successful": "whether it earned in the round in which the tree collapsed",
    "agrees": "whether the search noted the same",
    "error_turn": "whether the turn ended without an answer to the user",
    "ended": "why there is no child: solved, pruned, failed, ...",
    "failure": "kind of error; null where there was none",
    "calls": "tool calls with their arguments",
    "messages": "the messages, in order",
    "completions": "what was sampled: text, token ids, finish reason",
    "path": "child indexes from the root",
    "retry": "how often the same had failed before",
    "digest": "digest of the row",
    "excluded": "why the goal cannot be played; null where it can",
    "solvable": "whether an oracle earns the full reward",
    "attempt": "counted from 1; a refusal begins another",
    "line": "iterations that go on from each other share it",
    "method": "training method that it is for, by its name in the settings",
    "prompt": "messages before what is learnt",
    "promoted": "whether it became the next iteration's policy",
    "n": "goals that were played",
    "low": "lower end of the 95 % interval",
    "high": "upper end of the 95 % interval",
}
"""Columns that many tables share; a comment in schema.sql comes first."""

TABLE = re.compile(r"CREATE TABLE (\w+) \((.*?)\);", re.DOTALL)
COLUMN = re.compile(r"^(\w+) ([A-Z]+(?:\[\])?)(.*)$")
CONSTRAINTS = ("PRIMARY", "UNIQUE", "CHECK", "FOREIGN")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        type: as DuckDB names it.
        required: it is never null.
        about: what it holds; empty where nobody has said.
    """

    name: str
    type: str
    required: bool
    about: str


@cache
def columns() -> dict[str, tuple[Column, ...]]:
    """Return the columns of every table, in order."""
    text = (files("josh_pipeline.store") / "schema.sql").read_text()
    # A comment may hold a bracket and a semicolon, but no table ends within its line.
    return {match[1]: _columns(match[2]) for match in TABLE.finditer(_closed(text))}


def _closed(text: str) -> str:
    """Put a table that is written on one line on three, so that all are read alike."""
    return re.sub(r"^(CREATE TABLE \w+ \()(.+)\);$", r"\1\n\2\n);", text, flags=re.MULTILINE)


def _columns(body: str) -> tuple[Column, ...]:
    found: list[Column] = []
    for line in body.splitlines():
        code, _, comment = line.partition("--")
        for part in code.split(","):
            match = COLUMN.match(part.strip())
            if match is None or match[1] in CONSTRAINTS:
                continue
            required = "NOT NULL" in match[3] or "PRIMARY KEY" in match[3]
            found.append(Column(match[1], match[2], required, COMMON.get(match[1], "")))
        if comment and code.strip() and found:
            last = found[-1]
            found[-1] = Column(last.name, last.type, last.required, comment.strip())
    return tuple(found)


FIRST_VERSION = 3
"""Stores of before were written by no release."""
SCHEMA_VERSION = 3
"""Raised with every released change of schema.sql: an older store is migrated, a newer one refused."""


def view_statements(layout: Layout) -> tuple[str, ...]:
    """Return the SQL that makes the views."""
    stages = layout.stages.values()
    current = [_chosen("current", "(FROM generations WHERE current)", stage) for stage in stages]
    standing = [_chosen("standing", "standing_generations", stage) for stage in stages if stage.scope == "iteration"]
    return (*current, text_of("views.sql"), *standing)


def _chosen(name: str, generations: str, stage: StageLayout) -> str:
    """Return the SQL of views of a stage's tables, with the rows of some generations."""
    return "".join(
        f"CREATE VIEW {name}_{table} AS SELECT t.* FROM {table} t JOIN {generations} g ON g.stage = '{stage.name}' "
        f"AND g.scope = t.{stage.scope} AND g.generation = t.generation;\n"
        for table in stage.tables
    )


def refuse_strange(path: Path, connection: duckdb.DuckDBPyConnection) -> None:
    """Refuse a store that holds what could falsify what is read of it; asked before anything else is.

    A macro may have the name of a function, and a view that of a table; DuckDB takes those of the file first.

    Raises:
        UserError: it holds a function, type or trigger, or a view in place of a table; no release makes any.
    """
    found = connection.execute(STRANGE).fetchall()
    views = [("view", name) for name, _ in _views(connection) if name in columns()]
    for kind, name in (*found, *views):
        raise _strange(path, kind, name)


STRANGE = """
SELECT 'function', function_name FROM system.main.duckdb_functions() WHERE NOT internal
UNION ALL SELECT 'type', type_name FROM system.main.duckdb_types() WHERE NOT internal
UNION ALL SELECT 'trigger', trigger_name FROM system.main.duckdb_triggers()
"""


def _strange(path: Path, kind: str, name: str) -> UserError:
    return UserError(
        f"The store {path} holds the {kind} {quoted(name)}, which no release makes and which could falsify what is "
        "read: drop it, or restore the store from a copy."
    )


def _views(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    """Return name and SQL of every view."""
    return connection.execute(
        "SELECT view_name, sql FROM system.main.duckdb_views() WHERE NOT internal ORDER BY view_oid"
    ).fetchall()


@cache
def package_views(layout: Layout) -> list[tuple[str, str]]:
    """Return name and SQL, as DuckDB writes it, of every view of this release."""
    with duckdb.connect(":memory:") as connection:
        connection.execute(text_of("schema.sql"))
        for statement in view_statements(layout):
            connection.execute(statement)
        return _views(connection)


def renew_views(path: Path, connection: duckdb.DuckDBPyConnection, layout: Layout) -> None:
    """Make the views anew where the store has others than this release; they hold no data, so no version counts them.

    Raises:
        UserError: it holds a view or a table that no release makes.
    """
    found, right = _views(connection), package_views(layout)
    tables = connection.execute("SELECT table_name FROM system.main.duckdb_tables() WHERE NOT internal").fetchall()
    for name in sorted({name for name, _ in found} - {name for name, _ in right}):
        raise _strange(path, "view", name)
    for name in sorted({name for (name,) in tables} - columns().keys()):
        raise _strange(path, "table", name)
    if found != right:
        drop_views(connection)
        for statement in view_statements(layout):
            connection.execute(statement)


def drop_views(connection: duckdb.DuckDBPyConnection) -> None:
    """Drop every view."""
    for name, _ in _views(connection):
        connection.execute(f'DROP VIEW "{name}"')


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


def migrate(connection: duckdb.DuckDBPyConnection, version: int) -> None:
    """Bring the tables of an older store to this release's, inside the caller's transaction, without its views."""
    drop_views(connection)
    for step in range(version + 1, SCHEMA_VERSION + 1):
        connection.execute(migration(step))
    connection.execute("UPDATE meta SET schema_version = ?", [SCHEMA_VERSION])
