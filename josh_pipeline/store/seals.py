"""Seals: a digest of every row, written in the transaction that writes the row, and what they add up to.

A row's digest is the SHA-256, cut to 16 hexadecimal digits, of its columns by name, empty ones left out, so
that a later release may add a column. Rows that a generation wrote are sealed under its name
(``goals/8fae.../1``), rows named by content under the id of their tree or conversation. A generation's
digest covers its own rows, the content of the trees or conversations that it lists, its run, and the
digests of the generations that it was made from: so the digest of an adapter's generation commits to
everything down to the corpus.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import duckdb

from josh_pipeline.ids import content_id
from josh_pipeline.store.schema import (
    CONTENT_TABLES,
    MEMBERS,
    ROW_KEYS,
    STAGE_OF_TABLE,
    STAGE_TABLES,
    scope_column,
)

DIGITS = 16
"""64 bits of SHA-256, like the other ids: seals show what was altered, they do not stop a forger who
writes them anew. For that, keep the digest that ``josh audit`` ends with outside the home."""
MEMBER = "member"
"""In the column ``table_name``: the content of a tree or conversation as a generation found it."""
RUNS = "runs"

Change = Literal["altered", "missing", "added"]


@dataclass(frozen=True)
class ChangedRow:
    """A row that differs from its seal.

    Attributes:
        table: its table.
        unit: the generation, tree or conversation that it belongs to.
        key: names the row in its table.
        change: the row was altered, is missing, or was added since it was sealed.
    """

    table: str
    unit: str
    key: str
    change: Change


def row_digest(connection: duckdb.DuckDBPyConnection, table: str) -> str:
    """Return the SQL expression of a row's digest.

    Every value is written with its length, floating-point numbers with 17 digits, so that the text is the
    same in every release of DuckDB.
    """
    columns = connection.execute(
        f"SELECT name, type FROM pragma_table_info('{table}') ORDER BY name"
    ).fetchall()
    fields = ", ".join(f"coalesce('{name}=' || {_length_and_text(name, kind)}, '')" for name, kind in columns)
    return f"left(sha256(concat({fields})), {DIGITS})"


def _length_and_text(name: str, kind: str) -> str:
    if kind == "DOUBLE":
        text = f"printf('%.17g', \"{name}\")"
    elif kind.startswith("TIMESTAMP"):
        text = f'epoch_us("{name}")::VARCHAR'
    elif kind.endswith("[]"):
        text = f'array_to_string("{name}", chr(31)) || \'/\' || len("{name}")'
    else:
        text = f'"{name}"::VARCHAR'
    return f"strlen({text}) || ':' || {text}"


def row_key(table: str) -> str:
    """Return the SQL expression that names a row in its table."""
    columns = [f'"{name}"' for name in ROW_KEYS[table]]
    return f"concat_ws('/', {', '.join(columns)})" if len(columns) > 1 else f"{columns[0]}::VARCHAR"


def row_unit(table: str) -> str:
    """Return the SQL expression of what a row is sealed under."""
    if table in CONTENT_TABLES:
        return CONTENT_TABLES[table]
    if table == RUNS:
        return f"'{RUNS}'"
    stage = STAGE_OF_TABLE[table]
    return f"'{stage}/' || {scope_column(stage)} || '/' || generation"


def sealed_rows(connection: duckdb.DuckDBPyConnection, table: str) -> str:
    """Return the SELECT of (unit, table_name, key, digest) of a table's rows as they are now."""
    return (
        f"SELECT {row_unit(table)} AS unit, '{table}' AS table_name, {row_key(table)} AS key, "
        f"{row_digest(connection, table)} AS digest FROM {table}"
    )


def seal_content(connection: duckdb.DuckDBPyConnection, tables: Iterable[str], ids: str) -> None:
    """Seal rows that are named by content, in place of the seals that they had.

    Args:
        tables: of ``CONTENT_TABLES``.
        ids: SELECT of the ids of the trees or conversations.
    """
    for table in tables:
        connection.execute(f"DELETE FROM seals WHERE table_name = '{table}' AND unit IN ({ids})")
        connection.execute(
            f"INSERT INTO seals BY NAME {sealed_rows(connection, table)} "
            f"WHERE {CONTENT_TABLES[table]} IN ({ids})"
        )


def seal_run(connection: duckdb.DuckDBPyConnection, run_id: str) -> None:
    """Seal the record of a run."""
    connection.execute(
        f"INSERT INTO seals BY NAME {sealed_rows(connection, RUNS)} WHERE run_id = ?", [run_id]
    )


def seal_generation(
    connection: duckdb.DuckDBPyConnection,
    stage: str,
    scope: str,
    number: int,
    run_id: str,
    inputs: Mapping[str, int],
) -> tuple[str, str]:
    """Seal the rows of a generation.

    Args:
        inputs: "stage/scope" to the generation that was read.

    Returns:
        The digest of its content, and the digest of the generation.
    """
    unit = f"{stage}/{scope}/{number}"
    where = f"WHERE {scope_column(stage)} = ? AND generation = ?"
    for table in STAGE_TABLES[stage]:
        rows = sealed_rows(connection, table)
        connection.execute(f"INSERT INTO seals BY NAME {rows} {where}", [scope, number])
    if stage in MEMBERS:
        members = MEMBERS[stage]
        # What failed is owed again and will be replaced, so only what is finished is held to its content.
        finished = (
            f"SELECT {members.key} FROM {members.table} {where} "
            f"AND {members.key} IN (SELECT {members.key} FROM {members.content[0]} WHERE failure IS NULL)"
        )
        connection.execute(
            f"INSERT INTO seals BY NAME SELECT '{unit}' AS unit, '{MEMBER}' AS table_name, "
            f"unit AS key, digest FROM ({content_digests(members.content, finished)})",
            [scope, number],
        )
    content = generation_content(connection, unit)
    return content, generation_digest(connection, stage, scope, number, run_id, inputs, content)


def content_digests(tables: Sequence[str], ids: str) -> str:
    """Return the SELECT of (unit, digest): the content of trees or conversations, from their rows' seals."""
    names = ", ".join(f"'{table}'" for table in tables)
    lines = "string_agg(table_name || '/' || key || ' ' || digest, chr(10) ORDER BY table_name, key)"
    return (
        f"SELECT unit, left(sha256({lines}), {DIGITS}) AS digest FROM seals "
        f"WHERE table_name IN ({names}) AND unit IN ({ids}) GROUP BY unit"
    )


def generation_content(connection: duckdb.DuckDBPyConnection, unit: str) -> str:
    """Return the digest of a generation's rows, from their seals."""
    lines = "table_name || '/' || key || ' ' || digest"
    found = connection.execute(
        f"SELECT left(sha256(coalesce(string_agg({lines}, chr(10) ORDER BY table_name, key, digest), '')), "
        f"{DIGITS}) FROM seals WHERE unit = ?",
        [unit],
    ).fetchall()
    return str(found[0][0])


def generation_digest(
    connection: duckdb.DuckDBPyConnection,
    stage: str,
    scope: str,
    number: int,
    run_id: str,
    inputs: Mapping[str, int],
    content: str,
) -> str:
    """Return the digest of a generation: its content, its run, and the digests of what it was made from."""
    run = connection.execute(
        "SELECT digest FROM seals WHERE unit = ? AND table_name = ? AND key = ?", [RUNS, RUNS, run_id]
    ).fetchall()
    made_from: dict[str, Any] = {}
    for key, generation in inputs.items():
        found = connection.execute(
            "SELECT digest FROM generations WHERE stage || '/' || scope = ? AND generation = ?",
            [key, generation],
        ).fetchall()
        made_from[key] = [generation, found[0][0] if found else None]
    return content_id(
        "generation", stage, scope, number, run_id, run[0][0] if run else None, made_from, content
    )


def changed_rows(connection: duckdb.DuckDBPyConnection, table: str) -> list[ChangedRow]:
    """Hold every row of a table against its seal.

    Rows of what was never sealed, or was removed, are left out.
    """
    # A run has no mark that says whether it was sealed: those that were not have no seal.
    known = f"AND key IN (SELECT key FROM seals WHERE table_name = '{RUNS}')" if table == RUNS else ""
    found = connection.execute(
        f"WITH units(unit) AS ({sealed_units(table)}), "
        f"weighed AS (SELECT unit, key, digest, 1 AS weight FROM ({sealed_rows(connection, table)}) "
        f"WHERE unit IN (FROM units) {known} UNION ALL "
        f"SELECT unit, key, digest, -1 FROM seals WHERE table_name = '{table}' AND unit IN (FROM units)), "
        "differing AS (SELECT unit, key, sum(weight) AS weight FROM weighed GROUP BY unit, key, digest "
        "HAVING sum(weight) <> 0) "
        "SELECT unit, key, CASE WHEN bool_and(weight > 0) THEN 'added' WHEN bool_and(weight < 0) "
        "THEN 'missing' ELSE 'altered' END FROM differing GROUP BY unit, key ORDER BY unit, key"
    ).fetchall()
    return [ChangedRow(table, *row) for row in found]


def sealed_units(table: str) -> str:
    """Return the SELECT of what was sealed, of a table's rows."""
    if table in CONTENT_TABLES:
        return f"SELECT DISTINCT unit FROM seals WHERE table_name = '{CONTENT_HEAD[table]}'"
    if table == RUNS:
        return f"SELECT '{RUNS}' WHERE EXISTS (FROM seals WHERE table_name = '{RUNS}')"
    return (
        "SELECT stage || '/' || scope || '/' || generation FROM generations "
        f"WHERE stage = '{STAGE_OF_TABLE[table]}' AND digest IS NOT NULL AND removed_at IS NULL"
    )


def changed_keys(
    connection: duckdb.DuckDBPyConnection, keys: Mapping[str, Sequence[str]], units: Sequence[str]
) -> list[ChangedRow]:
    """Hold some rows against their seals.

    Args:
        keys: table to the keys of its rows, of tables whose rows belong to generations.
        units: trees, all of whose rows are looked at. They are compared one by one: DuckDB skips what
            cannot be equal, and among millions of rows that is most.
    """
    now: list[tuple[str, str, str, str]] = []
    sealed: list[tuple[str, str, str, str]] = []
    seals = "SELECT unit, table_name, key, digest FROM seals WHERE"
    for table in ("trees", "nodes"):
        for unit in units:
            rows = f"{sealed_rows(connection, table)} WHERE {CONTENT_TABLES[table]} = ?"
            now += connection.execute(rows, [unit]).fetchall()
            sealed += connection.execute(f"{seals} unit = ? AND table_name = ?", [unit, table]).fetchall()
    for table, names in keys.items():
        wanted = "IN (SELECT unnest(?))"
        rows = f"{sealed_rows(connection, table)} WHERE {row_key(table)} {wanted}"
        now += connection.execute(rows, [list(names)]).fetchall()
        found = f"{seals} table_name = '{table}' AND key {wanted}"
        sealed += connection.execute(found, [list(names)]).fetchall()
    generations = connection.execute(
        "SELECT stage || '/' || scope || '/' || generation FROM generations "
        "WHERE digest IS NOT NULL AND removed_at IS NULL"
    ).fetchall()
    known = {row[0] for row in generations} | {unit for unit, table, _, _ in sealed if table == "trees"}
    runs = {key for unit, _, key, _ in sealed if unit == RUNS}
    weights: Counter[tuple[str, str, str, str]] = Counter()
    for weight, several in ((1, now), (-1, sealed)):
        for unit, table, key, digest in several:
            if unit in known or key in runs:
                weights[table, unit, key, digest] += weight
    signs: dict[tuple[str, str, str], set[bool]] = {}
    for (table, unit, key, _), weight in sorted(weights.items()):
        if weight:
            signs.setdefault((table, unit, key), set()).add(weight > 0)
    return [ChangedRow(*row, CHANGE_OF[frozenset(seen)]) for row, seen in signs.items()]


CHANGE_OF: Mapping[frozenset[bool], Change] = {
    frozenset({True}): "added",
    frozenset({False}): "missing",
    frozenset({True, False}): "altered",
}
"""Whether there is a row without its seal, a seal without its row, or both."""

CONTENT_HEAD = {table: members.content[0] for members in MEMBERS.values() for table in members.content}
"""Table named by content to the table that holds one row a tree or conversation."""
