"""Step ``multiwoz_dialogues``: a corpus into the store, and out of it again."""

import json
from collections import Counter
from dataclasses import dataclass

import polars as pl

from josh_pipeline.environments.toolwoz.frames import to_frames
from josh_pipeline.environments.toolwoz.load import load_corpus
from josh_pipeline.environments.toolwoz.records import Corpus, Dialogue
from josh_pipeline.stages.scopes import corpus_scope
from josh_pipeline.stages.step import Step
from josh_pipeline.store.warehouse import Generation, Warehouse


@dataclass(frozen=True)
class CorpusSummary:
    """What was read.

    Attributes:
        dialogues: number a split.
        entities: number a domain.
    """

    generation: Generation
    name: str
    digest: str
    source: str
    licence: str
    dialogues: dict[str, int]
    entities: dict[str, int]


def store_corpus(step: Step) -> CorpusSummary:
    """Read the corpus of the settings and write it to the store.

    Raises:
        UserError: there is no such corpus, or it is damaged.
    """
    settings = step.settings.corpus
    with_bar = Bar(step.progress)
    corpus = load_corpus(
        settings.source,
        step.home.cache,
        sample_dialogues=settings.sample_dialogues,
        sample_seed=settings.sample_seed,
        progress=with_bar,
    )
    with_bar.close()
    frames = to_frames(corpus)
    digest = pl.lit(corpus.digest).alias("corpus_digest")
    row = {
        "corpus_digest": corpus.digest,
        "name": corpus.name,
        "source": corpus.source,
        "licence": corpus.licence,
        "dialogues": frames["dialogues"].height,
        "entities": frames["entities"].height,
    }
    dialogues = frames["dialogues"].rename({"goal_json": "goal", "log_json": "log"})
    entities = frames["entities"].rename({"row_json": "entity"})
    tables = {
        "corpora": pl.DataFrame([row]),
        "dialogues": dialogues.with_columns(digest),
        "entities": entities.with_columns(digest),
    }
    generation = step.warehouse.publish("corpus", corpus_scope(settings), step.run_id, tables)
    return CorpusSummary(
        generation=generation,
        name=corpus.name,
        digest=corpus.digest,
        source=corpus.source,
        licence=corpus.licence,
        dialogues=dict(Counter(dialogue.split for dialogue in corpus.dialogues)),
        entities={domain: len(rows) for domain, rows in corpus.databases.items()},
    )


def stored_corpus(
    warehouse: Warehouse, scope: str, *, dialogues: bool, generation: int | None = None
) -> Corpus:
    """Return a stored corpus.

    Args:
        scope: see ``corpus_scope``; it is in the store.
        dialogues: read the dialogues too; the databases are all that a world needs, and the logs are long.
        generation: which; None for the current one.
    """
    if generation is None:
        current = warehouse.current("corpus", scope)
        assert current is not None
        generation = current.number
    of = [scope, generation]
    about = warehouse.rows("SELECT * FROM corpora WHERE scope = ? AND generation = ?", of)[0]
    databases: dict[str, list[dict[str, object]]] = {}
    for row in warehouse.rows(
        "SELECT domain, entity FROM entities WHERE scope = ? AND generation = ? ORDER BY domain, position", of
    ):
        databases.setdefault(row["domain"], []).append(json.loads(row["entity"]))
    read: tuple[Dialogue, ...] = ()
    if dialogues:
        read = tuple(
            Dialogue(row["dialogue_id"], row["split"], json.loads(row["goal"]), tuple(json.loads(row["log"])))
            for row in warehouse.rows(
                "SELECT dialogue_id, split, goal, log FROM dialogues "
                "WHERE scope = ? AND generation = ? ORDER BY dialogue_id",
                of,
            )
        )
    return Corpus(
        name=about["name"],
        digest=about["corpus_digest"],
        source=about["source"],
        licence=about["licence"],
        dialogues=read,
        databases={domain: tuple(rows) for domain, rows in databases.items()},
    )
