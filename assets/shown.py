"""What the pages of the UI show: figures and small tables as metadata."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from matplotlib.figure import Figure

from josh_pipeline.report.drawing import png
from josh_pipeline.store.warehouse import Generation


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


def stored(generation: Generation, rows: int, name: str) -> dict[str, Any]:
    """Return the metadata that names the table, its rows and the generation."""
    return {
        "dagster/table_name": f"josh.duckdb: {name}",
        "dagster/partition_row_count" if len(generation.scope) == 3 else "dagster/row_count": rows,
        "generation": generation.number,
    }
