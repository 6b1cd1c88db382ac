"""A store's current rows as files for other tools: tables as Parquet, training rows as JSON lines for TRL."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from josh_pipeline.audit.whole import store_digest
from josh_pipeline.core.content import canonical_json
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.files import writing
from josh_pipeline.harvest.rows import Row
from josh_pipeline.stages.preferences import stored_rows
from josh_pipeline.store.home import Home
from josh_pipeline.store.lineage import history
from josh_pipeline.store.run_record import git_commit
from josh_pipeline.store.schema import SCHEMA_VERSION
from josh_pipeline.store.warehouse import Warehouse, plain
from josh_pipeline.training.batches import conversational

MANIFEST = "manifest.json"
BATCH_ROWS = 10_000
"""Rows in memory at once."""


@dataclass(frozen=True)
class ExportedFile:
    """A file that was written.

    Attributes:
        name: relative to the folder.
        sha256: of its bytes.
        row_ids: of training rows, in the order of the file; empty for tables.
        without_loss: ids of SFT rows with assistant messages that carried no loss here. TRL's
            ``assistant_only_loss`` puts loss on every assistant message.
    """

    name: str
    rows: int
    sha256: str
    row_ids: list[str] = field(default_factory=list)
    without_loss: list[str] = field(default_factory=list)


def export(home: Home, iteration: str | None, folder: Path, formats: Sequence[str]) -> list[ExportedFile]:
    """Write the current rows of a home.

    Args:
        iteration: only its rows, and those that no iteration owns; None for all iterations.
        folder: made where it does not exist.
        formats: ``parquet``, ``jsonl`` or both.

    Raises:
        UserError: there is nothing of that iteration, or the folder cannot be written to.
    """
    warehouse = home.warehouse()
    iterations = warehouse.rows(
        "SELECT DISTINCT scope FROM generations WHERE current AND stage = 'policy' "
        "AND coalesce(scope = $iteration, true) ORDER BY scope",
        {"iteration": iteration},
    )
    if not iterations:
        raise UserError("There is nothing to export yet: run josh iterate first, or give another iteration.")
    files: list[ExportedFile] = []
    with writing(folder / MANIFEST):
        if "parquet" in formats:
            files += export_tables(warehouse, iteration, folder)
        if "jsonl" in formats:
            for row in iterations:
                files += export_rows(warehouse, row["scope"], folder)
        manifest = json.dumps(manifest_of(home, iteration, formats, files), indent=1)
        (folder / MANIFEST).write_text(manifest)
    return files


def export_tables(warehouse: Warehouse, iteration: str | None, folder: Path) -> list[ExportedFile]:
    """Write every table as ``tables/<table>.parquet``: the current rows, in no particular order."""
    (folder / "tables").mkdir(exist_ok=True)
    queries: dict[str, str] = {}
    layout = warehouse.layout
    for stage in layout.stages.values():
        where = " WHERE iteration = $iteration" if iteration and stage.scope == "iteration" else ""
        queries |= {table: f"FROM current_{table}{where}" for table in stage.tables}
    for members in layout.member_lists.values():
        listed = f"SELECT {members.key} {queries[members.table]}"
        for table in members.content:
            others = queries.get(table)
            one = f"FROM {table} WHERE {members.key} IN ({listed})"
            # Conversations are listed by evaluations and by benchmarks, some by both.
            queries[table] = one if others is None else f"{others} OR {members.key} IN ({listed})"
    queries |= {"runs": "FROM runs", "generations": "FROM generations"}
    files = []
    for table, query in queries.items():
        path = folder / "tables" / f"{table}.parquet"
        named = {"iteration": iteration} if "$iteration" in query else None
        rows = 0
        # Not by DuckDB's COPY: a store is opened such that nothing in it reaches other files.
        with warehouse.connection() as connection:
            found = connection.sql(query, params=named).to_arrow_reader(BATCH_ROWS)
            empty = plain(found.schema.empty_table())
            with pq.ParquetWriter(path, empty.schema) as out:
                for batch in found:
                    out.write_table(plain(pa.Table.from_batches([batch])))
                    rows += batch.num_rows
        files.append(ExportedFile(f"tables/{table}.parquet", rows, file_digest(path)))
    return files


def export_rows(warehouse: Warehouse, iteration: str, folder: Path) -> list[ExportedFile]:
    """Write an iteration's training rows as ``<method>-<iteration>.jsonl``; none where it has no rows."""
    rows = stored_rows(warehouse, iteration)
    if not rows:
        return []
    method = rows[0].method.rpartition(":")[2]  # a method of one's own is named by its file
    path = folder / f"{method.lower()}-{iteration}.jsonl"
    with_tools = any(row.tools for row in rows)
    with path.open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(example(row, with_tools), ensure_ascii=False) + "\n" for row in rows)
    ids = [row.row_id for row in rows]
    without_loss = [row.row_id for row in rows if row.kind == "conversations" and not _all_trained(row)]
    return [ExportedFile(path.name, len(rows), file_digest(path), ids, without_loss)]


def _all_trained(row: Row) -> bool:
    earlier = any(message.role == "assistant" for message in row.prompt)
    said = [one for side in row.sides for one in side.said if one.message.role == "assistant"]
    return not earlier and all(one.train for one in said)


def example(row: Row, with_tools: bool) -> dict[str, Any]:
    """Return a row in TRL's conversational form.

    Args:
        with_tools: give it ``tools``, a JSON text; all rows of a file must agree, for a key that only
            some have is filled with None where it is missing.
    """
    return conversational(row) | ({"tools": json.dumps(list(row.tools))} if with_tools else {})


def manifest_of(
    home: Home, iteration: str | None, formats: Sequence[str], files: Sequence[ExportedFile]
) -> dict[str, Any]:
    """Describe an export: what was written, from which generations, by what."""
    known = history(home.warehouse())
    shared = {name for name, stage in home.layout.stages.items() if stage.scope == "scope"}
    return {
        "made_by": f"josh export{f' {iteration}' if iteration else ''}, formats {' and '.join(formats)}",
        "josh_pipeline": version("josh-pipeline"),
        "git_commit": git_commit(),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "schema_version": SCHEMA_VERSION,
        "store_digest": store_digest(known),
        "generations": {
            written.name: written.digest
            for generation, written in known.items()
            if written.current and (iteration in (None, generation.scope) or generation.stage in shared)
        },
        "files": [asdict(file) for file in files],
        "digest": hashlib.sha256(canonical_json(sorted([one.name, one.sha256] for one in files)).encode()).hexdigest(),
    }


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()
