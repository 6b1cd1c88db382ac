"""How values look in Dagster's UI."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from matplotlib.figure import Figure

from josh_pipeline.report.figures import png
from josh_pipeline.report.words import shortened
from josh_pipeline.stages.stage import Check, Verdict
from josh_pipeline.stages.step import Step

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


def judged(check: Check, verdict: Verdict) -> dg.AssetCheckResult:
    """Return a verdict as the result of a check."""
    return dg.AssetCheckResult(
        check_name=check.name,
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity.ERROR if check.blocking else dg.AssetCheckSeverity.WARN,
        description=verdict.sentence,
        metadata={
            name: table(value) if isinstance(value, list) and value and isinstance(value[0], dict) else value
            for name, value in verdict.numbers.items()
        },
    )
