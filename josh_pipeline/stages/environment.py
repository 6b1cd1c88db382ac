"""Stage ``corpus``: what an environment reads from outside, into the store and out of it again."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from josh_pipeline.core.environment import Environment, EnvironmentSettings, Role, Snapshot, Source, Task, WantedCall
from josh_pipeline.core.errors import at_fault
from josh_pipeline.environments.registry import DEFAULT, environment_class
from josh_pipeline.stages.stage import Check, Made, Stage, Step, Verdict, corpus_scope, facts_of
from josh_pipeline.store.warehouse import Generation, Warehouse


def store_environment(step: Step, scope: str) -> Made:
    """Read the environment of the settings and write what it read to the store.

    Raises:
        UserError: there is no such environment or corpus, or it is damaged.
    """
    found = read_source(step)
    entities = {name: len(rows) for name, rows in found.entities.items()}
    about = {name: getattr(found, name) for name in ("name", "source", "licence")}
    of = {"corpus_digest": found.digest}
    tables = {
        "corpora": [of | about | {"sources": len(found.sources), "entities": sum(entities.values())}],
        "sources": [
            of | {"source_id": one.source_id, "split": one.split, "content": json.dumps(one.content)}
            for one in found.sources
        ],
        "entities": [
            of | {"collection": name, "position": position, "content": json.dumps(one)}
            for name, rows in found.entities.items()
            for position, one in enumerate(rows)
        ],
    }
    generation = step.warehouse.publish("corpus", scope, step.run_id, tables)
    return Made(
        generation,
        version=found.digest,
        rows=len(found.sources),
        facts={
            "environment": step.settings.environment.name,
            "corpus": found.name,
            **facts_of(vars(found), "source", "licence", "digest"),
            "dialogues": dict(Counter(one.split for one in found.sources)),
            "entities": entities,
        },
        verdicts={
            "corpus_complete": corpus_complete(step, scope),
            "corpus_unchanged": corpus_unchanged(step, generation),
        },
    )


def stored_environment(
    warehouse: Warehouse, settings: EnvironmentSettings, scope: str, *, sources: bool, generation: int | None = None
) -> Environment[Any]:
    """Return an environment as it was stored.

    Args:
        settings: of the environment.
        scope: see ``corpus_scope``; it is in the store.
        sources: read the records that tasks are derived from too; worlds do without, and they are long.
        generation: which; None for the current one.
    """
    if generation is None:
        current = warehouse.current("corpus", scope)
        assert current is not None
        generation = current.number
    of, where = [scope, generation], "WHERE scope = ? AND generation = ?"
    about = warehouse.rows(f"SELECT * FROM corpora {where}", of)[0]
    entities: dict[str, list[dict[str, Any]]] = {}
    for row in warehouse.rows(f"SELECT collection, content FROM entities {where} ORDER BY collection, position", of):
        entities.setdefault(row["collection"], []).append(json.loads(row["content"]))
    read = warehouse.rows(f"SELECT * FROM sources {where} ORDER BY source_id", of) if sources else []
    snapshot = Snapshot(
        name=about["name"],
        digest=about["corpus_digest"],
        source=about["source"],
        licence=about["licence"],
        sources=tuple(Source(row["source_id"], row["split"], json.loads(row["content"])) for row in read),
        entities={name: tuple(rows) for name, rows in entities.items()},
    )
    with at_fault(f"Making environment {settings.name}"):
        return environment_class(settings.name).restore(settings, snapshot)


def changed(step: Step) -> bool:
    """Whether the environment of the settings is in the store, and its code is another now."""
    current = step.warehouse.current("corpus", corpus_scope(step.settings))
    if current is None:
        return False
    environment = stored_environment(step.warehouse, step.settings.environment, current.scope, sources=False)
    stored: str = step.warehouse.written("corpora", current)[0]["corpus_digest"]
    return environment.snapshot().digest != stored


def source_changed(step: Step) -> bool:
    """Whether the source of the settings, read again, holds something else than the store has of it.

    Raises:
        UserError: it is not in the store, or cannot be read.
    """
    current = step.require("corpus", corpus_scope(step.settings))
    stored: str = step.warehouse.written("corpora", current)[0]["corpus_digest"]
    return read_source(step).digest != stored


def read_source(step: Step) -> Snapshot:
    """Read what the environment of the settings reads from outside.

    Raises:
        UserError: there is no such environment or corpus, or it is damaged.
    """
    settings = step.settings.environment
    with at_fault(f"Making environment {settings.name}"):
        return environment_class(settings.name).read(settings, step.home.cache, step.progress).snapshot()


adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)
"""Of a class of tasks: what writes and reads them."""


def stored_tasks(
    warehouse: Warehouse,
    scope: str,
    *,
    of: type[Task] = Task,
    kind: str | None = None,
    role: Role | None = None,
    ids: Sequence[str] | None = None,
    usable: bool = True,
    generation: int | None = None,
) -> list[Any]:
    """Return stored tasks in their order.

    Args:
        scope: see ``goals_scope``.
        of: the environment's class of tasks; ``Task`` where what people read will do.
        kind, role, ids: only those; None for all.
        usable: leave excluded tasks out.
        generation: which; None for the current one.
    """
    sql = "SELECT * FROM current_goals" if generation is None else "SELECT * FROM goals"
    sql += " WHERE scope = $scope"
    values: dict[str, Any] = {"scope": scope}
    for name, value in (("kind", kind), ("role", role), ("generation", generation)):
        if value is not None:
            sql += f" AND {name} = ${name}"
            values[name] = value
    if ids is not None:
        sql += " AND list_contains($ids, goal_id)"
        values["ids"] = list(ids)
    if usable:
        sql += " AND excluded IS NULL"
    rows = warehouse.rows(f"{sql} ORDER BY position", values)
    return [task_from_row(row, of) for row in rows]


def task_from_row(row: dict[str, Any], of: type[Task] = Task) -> Any:
    """Rebuild a task from its row of table ``goals``."""
    if of is not Task:
        return adapter(of).validate_json(row["task"])
    plain = {one.name: row[one.name] for one in fields(Task)}
    calls = tuple(WantedCall(**call) for call in json.loads(row["calls"]))
    return Task(**plain | {"message": tuple(json.loads(row["message"])), "calls": calls})


def corpus_complete(step: Step, scope: str) -> Verdict:
    """Hold the stored records and entities against the counts that were written with them."""
    found = step.warehouse.rows(
        "SELECT s.*, e.*, c.sources AS said_sources, c.entities AS said_entities FROM current_corpora c, "
        "(SELECT count(*) AS sources, count(DISTINCT source_id) AS names, count(DISTINCT corpus_digest) AS digests "
        "FROM current_sources WHERE scope = $scope) s, "
        "(SELECT count(*) AS entities, count(DISTINCT collection) AS collections "
        "FROM current_entities WHERE scope = $scope) e WHERE c.scope = $scope",
        {"scope": scope},
    )[0]
    faults = [
        f"{found[name]} {name} are stored, {found[f'said_{name}']} were read"
        for name in ("sources", "entities")
        if found[name] != found[f"said_{name}"]
    ]
    if found["names"] != found["sources"]:
        faults.append(f"{found['sources'] - found['names']} sources share the id of another")
    if found["digests"] > 1:
        faults.append("the sources are of several corpora")
    whole = f"{found['sources']} sources, and {found['entities']} entities in {found['collections']} collections."
    numbers = {name: found[name] for name in ("sources", "entities", "collections")}
    return Verdict(not faults, f"{'; '.join(faults)}." if faults else whole, numbers)


def corpus_unchanged(step: Step, generation: Generation) -> Verdict:
    """Hold the corpus against what the same source gave the last time it was read."""
    digests = step.warehouse.rows(
        "SELECT generation, corpus_digest FROM corpora WHERE scope = ? AND generation <= ? "
        "ORDER BY generation DESC LIMIT 2",
        [generation.scope, generation.number],
    )
    numbers = {"digest": digests[0]["corpus_digest"], "times read": generation.number}
    if len(digests) == 1:
        return Verdict(True, "The source was read for the first time.", numbers)
    numbers["digest before"] = digests[1]["corpus_digest"]
    if digests[0]["corpus_digest"] == digests[1]["corpus_digest"]:
        return Verdict(True, "The source holds what it held before.", numbers)
    return Verdict(
        False,
        "The source has changed since it was last read: goals and scores of before are of other dialogues.",
        numbers,
    )


STAGE = Stage(
    name="corpus",
    asset=environment_class(DEFAULT).source_asset,
    about="What the environment reads from outside, as it was read: the records that tasks are derived from, "
    "and the entities that tools look up: of MultiWOZ, dialogues and databases.",
    tables={"sources": ("source_id",), "corpora": ("corpus_digest",), "entities": ("collection", "position")},
    make=store_environment,
    scope="scope",
    scope_of=corpus_scope,
    checks=(
        Check(
            "corpus_complete", "As many records and entities are stored as were read, each record once.", blocking=True
        ),
        Check(
            "corpus_unchanged",
            "The source has the digest that it had when it was last read. A warning: goals and scores of "
            "before are of the records of before.",
        ),
    ),
    sample="SELECT source_id, split, content FROM current_sources WHERE scope = ? ORDER BY source_id",
    kinds=frozenset({"duckdb", "polars"}),
)
