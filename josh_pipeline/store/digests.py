"""The digest of a row stands in the row; what lists or was made from it commits to it.

A row's digest is the SHA-256, cut to 16 hexadecimal digits, of its columns by name: its own column, the
number of its generation, and empty columns are left out, so that a rerun that writes the same row gives
the same digest and a later release may add a column. A tree's row holds the digest of its nodes; the row
that lists a tree or conversation holds its digest; a generation's content is the digest of its rows, and
its own digest covers content, run, and the digests of the generations that it was made from. So the digest
of an adapter's generation commits to everything down to the corpus.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import duckdb

from josh_pipeline.core.content import content_id
from josh_pipeline.store.layout import Layout, StageLayout
from josh_pipeline.store.schema import columns

SYSTEM = "system.main"
"""DuckDB's own functions: unqualified, a macro of the store could take the place of one."""
DIGITS = 16
"""64 bits of SHA-256, like the other ids: digests show what was altered, they do not stop a forger who
computes them anew. For that, keep the digest that ``josh audit`` ends with outside the home."""
LEFT_OUT = ("digest", "generation")


def row_digest(table: str) -> str:
    """Return the SQL expression of a row's digest.

    Every value is written with its length, floating-point numbers with 17 digits, so that the text is the
    same in every release of DuckDB.
    """
    fields = ", ".join(
        f"CASE WHEN \"{column.name}\" IS NULL THEN '' ELSE {_named_text(column.name, column.type)} END"
        for column in sorted(columns()[table], key=lambda column: column.name)
        if column.name not in LEFT_OUT
    )
    return _cut(f"{SYSTEM}.concat({fields})")


def _cut(text: str) -> str:
    """Return the SQL expression of the beginning of a text's hash."""
    return f'{SYSTEM}."left"({SYSTEM}.sha256({text}), {DIGITS})'


def _named_text(name: str, kind: str) -> str:
    """Return the SQL expression ``name=length:text``; the operator ``||`` cannot be qualified."""
    if kind == "DOUBLE":
        text = f"{SYSTEM}.printf('%.17g', \"{name}\")"
    elif kind.startswith("TIMESTAMP"):
        text = f'{SYSTEM}.epoch_us("{name}")::VARCHAR'
    elif kind.endswith("[]"):
        text = f'{SYSTEM}.concat({SYSTEM}.array_to_string("{name}", {SYSTEM}.chr(31)), \'/\', {SYSTEM}.len("{name}"))'
    else:
        text = f'"{name}"::VARCHAR'
    return f"{SYSTEM}.concat('{name}=', {SYSTEM}.strlen({text}), ':', {text})"


def with_digest(table: str, names: Iterable[str]) -> str:
    """Return the SELECT of the rows of ``incoming`` with their digests, as the table will hold them.

    Args:
        names: the columns that ``incoming`` has.

    Raises:
        ValueError: the table has no such column.
    """
    given = set(names)
    own = [column for column in columns()[table] if column.name != "digest"]
    if unknown := given - {column.name for column in own}:
        raise ValueError(f"Table {table} has no column {sorted(unknown)}.")
    values = ", ".join(
        (f'"{one.name}"' if one.name in given else "NULL") + f'::{one.type} AS "{one.name}"' for one in own
    )
    return f"SELECT *, {row_digest(table)} AS digest FROM (SELECT {values} FROM incoming)"


def combined(order: str = "digest") -> str:
    """Return the SQL aggregate of several rows' digests, in some order."""
    return _cut(f"coalesce({SYSTEM}.string_agg(digest, '' ORDER BY {order}), '')")


def generation_rows(
    connection: duckdb.DuckDBPyConnection, stage: StageLayout, scope: str, number: int
) -> tuple[dict[str, int], str]:
    """Return how many rows a generation has in each of its tables, and the digest of them all."""
    counts: dict[str, int] = {}
    digests: list[str] = []
    for table in stage.tables:
        found = connection.execute(
            f"SELECT count(*), {combined()} FROM {table} WHERE {stage.scope} = ? AND generation = ?", [scope, number]
        ).fetchall()
        counts[table] = found[0][0]
        digests.append(found[0][1])
    return counts, content_id("content", stage.name, list(counts), digests)


def generation_digest(
    connection: duckdb.DuckDBPyConnection,
    stage: str,
    scope: str,
    number: int,
    run_id: str,
    inputs: Mapping[str, int],
    content: str,
) -> str:
    """Return the digest of a generation: its content, its run, and the digests of what it was made from.

    Args:
        inputs: "stage/scope" to the generation that was read.
    """
    run = connection.execute("SELECT digest FROM runs WHERE run_id = ?", [run_id]).fetchall()
    made_from: dict[str, Any] = {}
    for key, generation in inputs.items():
        found = connection.execute(
            "SELECT digest FROM generations WHERE stage || '/' || scope = ? AND generation = ?", [key, generation]
        ).fetchall()
        made_from[key] = [generation, found[0][0] if found else None]
    return content_id("generation", stage, scope, number, run_id, run[0][0] if run else None, made_from, content)


def altered_rows(
    connection: duckdb.DuckDBPyConnection,
    layout: Layout,
    table: str,
    where: str = "true",
    values: Sequence[object] = (),
) -> list[dict[str, Any]]:
    """Return what names the rows whose digest is not that of their columns.

    Args:
        where: SQL condition, with ``values`` for its parameters.
    """
    stage, keys = layout.stage_of(table), layout.keys(table)
    if stage is not None:
        keys = (stage.scope, "generation", *keys)
    elif table == "nodes":
        keys = ("rollout_id", *keys)
    names = ", ".join(f'"{key}"' for key in keys)
    found = connection.execute(
        f"SELECT {names} FROM {table} WHERE {where} AND digest <> {row_digest(table)} ORDER BY ALL", list(values)
    ).fetchall()
    return [dict(zip(keys, row, strict=True)) for row in found]
