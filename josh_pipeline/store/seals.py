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

from josh_pipeline.core.ids import content_id
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
FAILED_MEMBER = "failed member"
"""The same of one that had failed: it is owed again, so that other content is in its place some day."""
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
        # Sealed on demand, a generation may list what was played again since: that is not what it found.
        listed = (
            f"SELECT {members.key} FROM {members.table} WHERE {scope_column(stage)} = $scope "
            f"AND generation = $number AND {members.key} NOT IN ({_played_later(stage)})"
        )
        failed = f"(SELECT {members.key} FROM {members.content[0]} WHERE failure IS NOT NULL)"
        connection.execute(
            f"INSERT INTO seals BY NAME SELECT $unit AS unit, CASE WHEN found.unit IN {failed} "
            f"THEN '{FAILED_MEMBER}' ELSE '{MEMBER}' END AS table_name, found.unit AS key, found.digest "
            f"FROM ({content_digests(members.content, listed)}) found",
            {"unit": unit, "scope": scope, "number": number},
        )
    content = generation_content(connection, unit)
    return content, generation_digest(connection, stage, scope, number, run_id, inputs, content)


def replaced_members(
    connection: duckdb.DuckDBPyConnection,
    stage: str,
    scope: str,
    number: int,
    ids: Sequence[str] | None = None,
) -> set[str]:
    """Return the trees or conversations that had failed when a generation listed them, and are others now.

    Where the generation kept no seal of what had failed, the run tells: it began after the generation was
    written.

    Args:
        stage: a key of ``MEMBERS``.
        ids: ask for these alone; None for all that it lists.
    """
    members, unit = MEMBERS[stage], f"{stage}/{scope}/{number}"
    among = "" if ids is None else f"AND list_contains(?, {members.key})"
    listed = (
        f"SELECT DISTINCT {members.key} AS id FROM {members.table} "
        f"WHERE {scope_column(stage)} = ? AND generation = ? {among}"
    )
    # What had not failed never changes. Mostly that is all, and nothing more is asked.
    open_ended = connection.execute(
        f"SELECT l.id, f.digest FROM ({listed}) l LEFT JOIN "
        "(SELECT key, digest FROM seals WHERE unit = ? AND table_name = ?) f ON f.key = l.id "
        "WHERE l.id NOT IN (SELECT key FROM seals WHERE unit = ? AND table_name = ?)",
        [scope, number, *([] if ids is None else [list(ids)]), unit, FAILED_MEMBER, unit, MEMBER],
    ).fetchall()
    then = {name: digest for name, digest in open_ended if digest is not None}
    found = set()
    if then:
        now = connection.execute(content_digests(members.content, "SELECT unnest(?)"), [list(then)])
        found = {name for name, digest in now.fetchall() if digest != then[name]}
    if unsealed := {name for name, digest in open_ended if digest is None}:
        later = connection.execute(_played_later(stage), {"scope": scope, "number": number}).fetchall()
        found |= unsealed & {name for (name,) in later}
    return found


def _played_later(stage: str) -> str:
    """Return the SELECT of trees or conversations whose run began after $scope/$number was written."""
    members = MEMBERS[stage]
    return (
        f"SELECT c.{members.key} FROM {members.content[0]} c JOIN runs r ON r.run_id = c.run_id "
        f"JOIN generations g ON g.stage = '{stage}' AND g.scope = $scope AND g.generation = $number "
        "WHERE r.started_at > g.created_at"
    )


def unsealed_content(
    connection: duckdb.DuckDBPyConnection, ids: Sequence[str] | None = None
) -> list[tuple[str, str, bool]]:
    """Return what has no seal, as (table, id, whether a release that kept no seals may have written it).

    Such a release left its runs unsealed too, and generations without a digest.

    Args:
        ids: ask for these trees and conversations alone; None for all.
    """
    found: list[tuple[str, str, bool]] = []
    if ids is not None and not ids:
        return found
    # A list of constants: DuckDB skips what it cannot match.
    among = "true" if ids is None else f"{{}} IN ({', '.join('?' * len(ids))})"
    for head in sorted(set(CONTENT_HEAD.values())):
        key = CONTENT_TABLES[head]
        tables = [table for table in CONTENT_HEAD if CONTENT_HEAD[table] == head]
        units = " UNION ".join(
            f"SELECT {key} AS unit FROM {table} WHERE {among.format(key)}" for table in tables
        )
        rows = connection.execute(
            f"SELECT u.unit, count(r.run_id) > 0 AND EXISTS (FROM generations WHERE digest IS NULL) "
            f"FROM ({units}) u LEFT JOIN {head} c ON c.{key} = u.unit LEFT JOIN (SELECT run_id FROM runs "
            f"WHERE run_id NOT IN (SELECT key FROM seals WHERE table_name = '{RUNS}')) r USING (run_id) "
            f"WHERE u.unit NOT IN "
            f"(SELECT unit FROM seals WHERE table_name = '{head}' AND {among.format('unit')}) "
            "GROUP BY u.unit ORDER BY u.unit",
            [*(ids or ())] * (len(tables) + 1),
        ).fetchall()
        found += [(head, unit, excused) for unit, excused in rows]
    return found


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
    connection: duckdb.DuckDBPyConnection,
    keys: Mapping[tuple[str, str], Sequence[str]],
    trees: Sequence[str],
) -> list[ChangedRow]:
    """Hold some rows against their seals.

    Args:
        keys: (table, unit) to the keys of rows, of tables whose rows belong to generations, and of ``runs``.
            A key names a row within its generation only, so that others have rows of the same key.
        trees: all of whose rows are looked at.

    Units are compared one by one: DuckDB skips what cannot be equal, and among millions of rows that is most.
    """
    now: list[tuple[str, str, str, str]] = []
    sealed: list[tuple[str, str, str, str]] = []
    seals = "SELECT unit, table_name, key, digest FROM seals WHERE unit = ? AND table_name = ?"
    for table in ("trees", "nodes"):
        for unit in trees:
            rows = f"{sealed_rows(connection, table)} WHERE {CONTENT_TABLES[table]} = ?"
            now += connection.execute(rows, [unit]).fetchall()
            sealed += connection.execute(seals, [unit, table]).fetchall()
    for (table, unit), names in keys.items():
        of, values = _in_unit(table, unit)
        rows = f"{sealed_rows(connection, table)} WHERE {of} AND {row_key(table)} IN (SELECT unnest(?))"
        now += connection.execute(rows, [*values, list(names)]).fetchall()
        found = f"{seals} AND key IN (SELECT unnest(?))"
        sealed += connection.execute(found, [unit, table, list(names)]).fetchall()
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


def _in_unit(table: str, unit: str) -> tuple[str, list[Any]]:
    """Return the SQL condition that rows are of a unit, and its parameters."""
    if table == RUNS:
        return "true", []
    stage, _, rest = unit.partition("/")
    scope, _, number = rest.rpartition("/")
    return f"{scope_column(stage)} = ? AND generation = ?", [scope, int(number)]


CHANGE_OF: Mapping[frozenset[bool], Change] = {
    frozenset({True}): "added",
    frozenset({False}): "missing",
    frozenset({True, False}): "altered",
}
"""Whether there is a row without its seal, a seal without its row, or both."""

CONTENT_HEAD = {table: members.content[0] for members in MEMBERS.values() for table in members.content}
"""Table named by content to the table that holds one row a tree or conversation."""
