"""A corpus as tables."""

import json

import polars as pl

from josh_pipeline.environments.toolwoz.records import Corpus

GOAL_DOMAINS = ("hotel", "restaurant", "attraction", "train", "taxi", "police", "hospital")
ENTITY_ID_COLUMNS = ("trainID", "name")


def to_frames(corpus: Corpus) -> dict[str, pl.DataFrame]:
    """Return a corpus as two tables.

    JSON is ASCII, with escapes. The reader leaves no lone surrogate: a column of DuckDB's JSON refuses its
    escape too.

    Returns:
        ``dialogues``: dialogue_id, split, turns (count), domains (list: those of the goal), goal_json,
        log_json. ``entities``: domain, position (in the database, from 0), entity_id (``trainID`` or
        ``name``, null where the row has none; trains share ids), row_json.
    """
    dialogues = pl.DataFrame(
        {
            "dialogue_id": [d.dialogue_id for d in corpus.dialogues],
            "split": [d.split for d in corpus.dialogues],
            "turns": [len(d.log) for d in corpus.dialogues],
            "domains": [[name for name in GOAL_DOMAINS if d.goal.get(name)] for d in corpus.dialogues],
            "goal_json": [json.dumps(d.goal) for d in corpus.dialogues],
            "log_json": [json.dumps(d.log) for d in corpus.dialogues],
        },
        schema={
            "dialogue_id": pl.String,
            "split": pl.String,
            "turns": pl.Int64,
            "domains": pl.List(pl.String),
            "goal_json": pl.String,
            "log_json": pl.String,
        },
    )
    rows = [(d, i, row) for d, table in corpus.databases.items() for i, row in enumerate(table)]
    entities = pl.DataFrame(
        {
            "domain": [domain for domain, _, _ in rows],
            "position": [position for _, position, _ in rows],
            "entity_id": [
                next((str(row[key]) for key in ENTITY_ID_COLUMNS if key in row), None) for _, _, row in rows
            ],
            "row_json": [json.dumps(row) for _, _, row in rows],
        },
        schema={
            "domain": pl.String,
            "position": pl.Int64,
            "entity_id": pl.String,
            "row_json": pl.String,
        },
    )
    return {"dialogues": dialogues, "entities": entities}
