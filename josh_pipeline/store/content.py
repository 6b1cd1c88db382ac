"""What a generation holds, as one hash: a rerun that writes the same rows is known by it."""

from josh_pipeline.core.ids import content_id
from josh_pipeline.store.columns import columns
from josh_pipeline.store.schema import STAGE_TABLES, scope_column
from josh_pipeline.store.warehouse import Generation, Warehouse

INCIDENTAL = ("generation", "seconds")
"""Columns that differ from run to run, whatever the rows say."""


def content_version(warehouse: Warehouse, generation: Generation) -> str:
    """Hash the rows of a generation, whatever their order and whichever run wrote them."""
    column = scope_column(generation.stage)

    def incidental(table: str) -> str:
        return ", ".join(one.name for one in columns()[table] if one.name in INCIDENTAL)

    found = [
        warehouse.rows(
            "SELECT md5(coalesce(string_agg(row, '' ORDER BY row), '')) AS digest FROM (SELECT "
            f"md5(to_json(t)::VARCHAR) AS row FROM (SELECT * EXCLUDE ({incidental(table)}) FROM {table} "
            f"WHERE {column} = ? AND generation = ?) t)",
            [generation.scope, generation.number],
        )[0]["digest"]
        for table in STAGE_TABLES[generation.stage]
    ]
    return content_id("content", generation.stage, found)
