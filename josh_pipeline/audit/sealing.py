"""Rows held against their seals, and generations against what they were made from."""

import json
from collections import Counter
from collections.abc import Collection
from datetime import UTC, datetime

from josh_pipeline.audit.context import Context
from josh_pipeline.audit.findings import Finding
from josh_pipeline.store.lineage import History, Written, newest_of
from josh_pipeline.store.schema import CONTENT_TABLES, MEMBERS, ROW_KEYS, STAGE_OF_TABLE
from josh_pipeline.store.seals import (
    CONTENT_HEAD,
    MEMBER,
    RUNS,
    ChangedRow,
    changed_rows,
    content_digests,
    generation_content,
    generation_digest,
    seal_content,
    seal_generation,
    seal_run,
    unsealed_content,
)
from josh_pipeline.store.warehouse import Generation, Warehouse, transaction

CHANGES = {
    "altered": "was altered since it was written",
    "missing": "is missing: it was written and is not there any more",
    "added": "was added: no run wrote it",
}


def check_seals(context: Context, chosen: Collection[Generation]) -> None:
    """Hold every row of these generations, and of the trees and conversations they list, to its seal."""
    units = {context.known[generation].name for generation in chosen if generation in context.known}
    runs = {context.known[generation].run_id for generation in chosen if generation in context.known}
    members = _members(context, chosen)
    for table in ROW_KEYS:
        with context.warehouse.connection() as connection:
            changed = changed_rows(connection, table)
            number = connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]
        context.audit.checked["rows in the store"] += number
        context.reading.let_others_in()
        for row in changed:
            ours = row.key in runs if table == RUNS else row.unit in units or row.unit in members
            if ours:
                context.audit.add("broken", *changed_sentence(row))
    _check_members(context, units)


def changed_sentence(row: ChangedRow) -> tuple[str, str]:
    """Say which row differs from its seal: where, and one sentence."""
    if row.table == RUNS:
        return f"runs {row.key}", f"The record of run {row.key} {CHANGES[row.change]}."
    kind = "tree" if CONTENT_HEAD.get(row.table) == "trees" else "conversation"
    of = f"of {kind} {row.unit}" if row.table in CONTENT_TABLES else f"of {row.unit}"
    if row.key == row.unit:
        of = ""
    return (
        f"{row.table} {row.key}",
        f"Row {row.key} of table {row.table} {of} {CHANGES[row.change]}.".replace("  ", " "),
    )


def _members(context: Context, chosen: Collection[Generation]) -> set[str]:
    found: set[str] = set()
    for generation in chosen:
        if generation.stage in MEMBERS:
            members = MEMBERS[generation.stage]
            found.update(row[members.key] for row in context.rows(members.table, generation))
    return found


def _check_members(context: Context, units: set[str]) -> None:
    """Hold the content of trees and conversations to what the generations that list them found."""
    for tables in {members.content for members in MEMBERS.values()}:
        stages = [stage for stage, members in MEMBERS.items() if members.content == tables]
        listed = " OR ".join(f"starts_with(unit, '{stage}/')" for stage in stages)
        differing = context.warehouse.rows(
            f"WITH listed AS (SELECT unit, key, digest FROM seals WHERE table_name = '{MEMBER}' "
            f"AND ({listed})), now AS ({content_digests(tables, 'SELECT key FROM listed')}) "
            "SELECT l.unit, l.key FROM listed l LEFT JOIN now n ON n.unit = l.key "
            "WHERE n.digest IS DISTINCT FROM l.digest ORDER BY ALL"
        )
        for row in differing:
            if row["unit"] in units:
                message = (
                    f"{tables[0].removesuffix('s').capitalize()} {row['key']} is not what {row['unit']} "
                )
                context.audit.add("broken", row["unit"], message + "listed: its seals were altered.")


def check_generation(context: Context, written: Written) -> None:
    """Hold a generation's digests to its seals, its run and its inputs, and say what they are now."""
    context.audit.checked["generations"] += 1
    for finding in digest_findings(context, written):
        context.audit.add(finding.status, finding.where, finding.message)
    if written.content is None or written.removed:
        return
    with context.warehouse.connection() as connection:
        content = generation_content(connection, written.name)
    if content != written.content:
        message = "Its seals do not add up to its digest: they were altered together with its rows, or alone."
        context.audit.add("broken", written.name, message)


def digest_findings(context: Context, written: Written) -> list[Finding]:
    """Hold a generation's digest to its run and its inputs, and say what became of those."""
    found = [finding for one in written.inputs for finding in _input_findings(context, written, one)]
    found += current_findings(context.known, written)
    if written.removed:
        message = "Its rows were removed by josh gc; its digest still links what came before and after."
        found.append(Finding("removed", written.name, message))
    if written.digest is None or written.content is None:
        message = "It was written by a release that kept no seals: josh audit --seal seals what is there."
        return [*found, Finding("unsealed", written.name, message)]
    one = written.generation
    inputs = {each.key: each.number for each in written.inputs}
    with context.warehouse.connection() as connection:
        digest = generation_digest(
            connection, one.stage, one.scope, one.number, written.run_id, inputs, written.content
        )
    if digest != written.digest:
        message = "Its digest does not follow from its rows, its run and what it was made from."
        found.append(Finding("broken", written.name, message))
    return found


def current_findings(known: History, written: Written) -> list[Finding]:
    """Say whether a generation is current and should not be, or the other way round.

    No digest covers that mark, which every rerun moves, and josh gc leaves what is current alone: so it
    stands at the newest generation, and nowhere else.
    """
    newest = newest_of(known, written.generation.key)
    message = None
    if newest is not None and newest != written.generation and written.current:
        message = f"It is current, and generation {newest.number} is newer: no run made it current again."
    elif newest == written.generation and (written.removed or not written.current):
        message = "It is the newest and not current, and no run made another one current."
    return [] if message is None else [Finding("broken", written.name, message)]


def _input_findings(context: Context, written: Written, generation: Generation) -> list[Finding]:
    found = context.known.get(generation)
    made_from = f"{generation.key} generation {generation.number}"
    if found is None:
        message = f"It was made from {made_from}, which the store does not hold."
        return [Finding("broken", written.name, message)]
    if written.current and not found.current:
        newest = newest_of(context.known, generation.key) or generation
        message = f"It was made from {made_from}, which generation {newest.number} has replaced since."
        return [Finding("superseded", written.name, message)]
    return []


def check_strays(context: Context) -> None:
    """Find rows of generations that the store does not list, and seals of such."""
    for table, stage in STAGE_OF_TABLE.items():
        scope = "scope" if stage in ("corpus", "goals", "cold_start", "benchmark") else "iteration"
        for row in context.warehouse.rows(
            f"SELECT {scope} AS scope, generation, count(*) AS n FROM {table} t WHERE NOT EXISTS "
            f"(FROM generations g WHERE g.stage = '{stage}' AND g.scope = t.{scope} "
            "AND g.generation = t.generation AND g.removed_at IS NULL) GROUP BY ALL ORDER BY ALL"
        ):
            where = f"{stage}/{row['scope']}/{row['generation']}"
            message = f"{row['n']} rows of table {table} belong to it, and the store does not list it."
            context.audit.add("broken", where, message)
    for row in context.warehouse.rows(
        "SELECT DISTINCT unit FROM seals WHERE contains(unit, '/') AND unit NOT IN "
        "(SELECT stage || '/' || scope || '/' || generation FROM generations) ORDER BY ALL"
    ):
        message = "It was written and is missing from the table generations."
        context.audit.add("broken", row["unit"], message)


def check_unsealed(context: Context, chosen: Collection[Generation] | None) -> None:
    """Find trees and conversations without a seal.

    Args:
        chosen: look at those that these generations list; None for all in the store.
    """
    ours = None if chosen is None else _members(context, chosen)
    with context.warehouse.connection() as connection:
        found = [one for one in unsealed_content(connection) if ours is None or one[1] in ours]
    for table, number in sorted(Counter(table for table, _, excused in found if excused).items()):
        message = f"{number} rows of table {table} have no seal: a release that kept none wrote them."
        context.audit.add("unsealed", table, message)
    for table, unit, excused in found:
        if not excused:
            context.audit.add("broken", *unsealed_sentence(table, unit))


def unsealed_sentence(table: str, unit: str) -> tuple[str, str]:
    """Say which tree or conversation has no seal and should: where, and one sentence."""
    kind = "Tree" if table == "trees" else "Conversation"
    return f"{table} {unit}", f"{kind} {unit} has no seal: no run wrote it, or its seals were removed."


def seal_what_is_unsealed(warehouse: Warehouse) -> int:
    """Seal what was written before there were seals, as it is now; returns the number of generations."""
    with warehouse.connection() as connection, transaction(connection):
        for members in {m.content: m for m in MEMBERS.values()}.values():
            head, key = members.content[0], members.key
            connection.execute(
                f"CREATE OR REPLACE TEMP TABLE unsealed_ids AS SELECT {key} FROM {head} "
                f"WHERE {key} NOT IN (SELECT unit FROM seals WHERE table_name = '{head}')"
            )
            seal_content(connection, members.content, "FROM unsealed_ids")
        for (run_id,) in connection.execute(
            f"SELECT run_id FROM runs WHERE run_id NOT IN (SELECT key FROM seals WHERE table_name = '{RUNS}')"
        ).fetchall():
            seal_run(connection, run_id)
        unsealed = connection.execute(
            "SELECT stage, scope, generation, run_id, inputs FROM generations WHERE digest IS NULL "
            "AND removed_at IS NULL ORDER BY created_at, stage, scope, generation"
        ).fetchall()
        for stage, scope, number, run_id, inputs in unsealed:
            content, digest = seal_generation(connection, stage, scope, number, run_id, json.loads(inputs))
            connection.execute(
                "UPDATE generations SET content = ?, digest = ?, sealed_at = ? "
                "WHERE stage = ? AND scope = ? AND generation = ?",
                [content, digest, datetime.now(UTC), stage, scope, number],
            )
    return len(unsealed)
