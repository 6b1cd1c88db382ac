"""What the pages of the UI show: figures and small tables as metadata."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from matplotlib.figure import Figure

from assets.columns import lineage, table_name
from josh_pipeline.report.drawing import png
from josh_pipeline.report.words import shortened
from josh_pipeline.stages.step import Step
from josh_pipeline.stages.verdicts import Verdict
from josh_pipeline.store.warehouse import Generation

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
SAMPLE_ROWS = 5
SAMPLE_WIDTH = 160


def figure(drawn: Figure, dpi: int = 90) -> dg.MarkdownMetadataValue:
    """Return a figure that the UI shows inline: it needs no server and no file."""
    data = base64.b64encode(png(drawn, dpi)).decode()
    return dg.MetadataValue.md(f"![figure](data:image/png;base64,{data})")


def table(rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Return rows of equal keys as a table; it must not be empty."""
    records = [dg.TableRecord({name: cell(value) for name, value in row.items()}) for row in rows]
    return dg.MetadataValue.table(records)


def cell(value: Any) -> str | int | float | bool:
    """Return a value as a table can hold it; numbers with three decimals."""
    if isinstance(value, bool | int | str):
        return value
    return round(value, 3) if isinstance(value, float) else "" if value is None else str(value)


def sample(step: Step, sql: str, parameters: Sequence[Any]) -> dict[str, Any]:
    """Return the first rows of a query as metadata, long texts cut; nothing where there is no row."""
    rows = step.warehouse.rows(f"{sql} LIMIT {SAMPLE_ROWS}", parameters)
    cut = [
        {
            name: shortened(value, SAMPLE_WIDTH) if isinstance(value, str) else value
            for name, value in row.items()
        }
        for row in rows
    ]
    return {"sample": table(cut)} if cut else {}


def stored(asset: str, generation: Generation, rows: int) -> dict[str, Any]:
    """Return the metadata that names an asset's first table, its rows, its generation, and the lineage.

    The columns are those of the definition: see ``described``.
    """
    return lineage(asset) | {
        "dagster/table_name": table_name(asset),
        "dagster/partition_row_count" if len(generation.scope) == 3 else "dagster/row_count": rows,
        "generation": generation.number,
    }


def judged(name: str, verdict: Verdict, severity: dg.AssetCheckSeverity) -> dg.AssetCheckResult:
    """Return a verdict as the result of a check."""
    return dg.AssetCheckResult(
        check_name=name,
        passed=verdict.passed,
        severity=severity,
        description=verdict.sentence,
        metadata=dict(verdict.numbers),
    )
