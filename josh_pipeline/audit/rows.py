"""Rows held against their digests, generations against their rows, and both against what was listed."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from josh_pipeline.audit.context import Context, Finding
from josh_pipeline.core.words import number_of
from josh_pipeline.evaluation.benchmark import episode_id
from josh_pipeline.search.search import rollout_id
from josh_pipeline.store.digests import altered_rows, combined, generation_digest, generation_rows
from josh_pipeline.store.layout import Layout
from josh_pipeline.store.lineage import History, Written, newest_of
from josh_pipeline.store.warehouse import Generation

IDS = {"trees": ("rollout_id", rollout_id), "episodes": ("episode_id", episode_id)}
"""Table to the column that names a row, and to what computes the name."""


def check_rows(context: Context, whole: bool) -> None:
    """Hold every row of the chosen generations, and of what they list, to its digest.

    Args:
        whole: all generations are chosen: look at trees and conversations that none lists, too.
    """
    listed = check_members(context)
    runs = {context.known[one].run_id for one in context.chosen if one in context.known}
    layout = context.warehouse.layout
    for table in layout.tables:
        stage = layout.stage_of(table)
        with context.warehouse.connection() as connection:
            altered = altered_rows(connection, layout, table)
            number = connection.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0]
        context.audit.checked["rows in the store"] += number
        context.reading.let_others_in()
        for row in altered:
            if stage is not None:
                ours = Generation(stage.name, row[stage.scope], row["generation"]) in context.chosen
            else:
                name = next(iter(row.values()))
                ours = whole or (name in runs if table == "runs" else name in listed)
            if ours:
                context.broken(*altered_sentence(layout, table, row))
    _check_nodes_of_trees(context, listed, whole)
    _check_ids(context, listed, whole)


def altered_sentence(layout: Layout, table: str, row: dict[str, Any]) -> tuple[str, str]:
    """Say which row differs from its digest: where, and one sentence."""
    stage, key = layout.stage_of(table), "/".join(str(row[one]) for one in layout.keys(table))
    changed = "was altered since it was written."
    if table == "runs":
        return f"runs {key}", f"The record of run {key} {changed}"
    of = f" of tree {row['rollout_id']}" if table == "nodes" else ""
    if stage is not None:
        of = f" of {stage.name}/{row[stage.scope]}/{row['generation']}"
    return f"{table} {key}", f"Row {key} of table {table}{of} {changed}"


def check_members(context: Context) -> set[str]:
    """Hold trees and conversations to what the chosen generations listed.

    Returns:
        The ids of all that are listed.
    """
    ids: set[str] = set()
    for generation in context.chosen:
        stage = context.warehouse.layout.stages[generation.stage]
        if stage.members is None or not context.readable(generation):
            continue
        members = stage.members
        for row in context.warehouse.rows(
            f"SELECT DISTINCT l.{members.key} AS id, l.{members.digest} AS listed, m.digest AS found "
            f"FROM {members.table} l LEFT JOIN {members.head} m USING ({members.key}) "
            f"WHERE l.{stage.scope} = ? AND l.generation = ? ORDER BY ALL",
            [generation.scope, generation.number],
        ):
            ids.add(row["id"])
            if row["found"] != row["listed"]:
                one, name = f"{members.kind.capitalize()} {row['id']}", context.known[generation].name
                altered = f"{one} is not what {name} listed: it was altered, and its digest with it."
                missing = f"{one} is missing, and {name} lists it."
                context.broken(f"{members.head} {row['id']}", missing if row["found"] is None else altered)
    return ids


def _check_nodes_of_trees(context: Context, listed: set[str], whole: bool) -> None:
    """Hold the nodes of each tree, all together, to the digest that the tree has of them."""
    for row in context.warehouse.rows(
        f"WITH found AS (SELECT rollout_id, {combined('node_id')} AS digest FROM nodes GROUP BY rollout_id) "
        "SELECT coalesce(t.rollout_id, f.rollout_id) AS id, t.rollout_id IS NULL AS lost "
        "FROM trees t FULL JOIN found f ON f.rollout_id = t.rollout_id "
        "WHERE t.nodes_digest IS DISTINCT FROM f.digest ORDER BY ALL"
    ):
        if not (whole or row["id"] in listed):
            continue
        if row["lost"]:
            message = f"There are nodes of tree {row['id']}, and no such tree: no run wrote them so."
        else:
            message = f"The nodes of tree {row['id']} are not those that were written with it: one was "
            message += "altered together with its digest, added, or removed."
        context.broken(f"trees {row['id']}", message)


def _check_ids(context: Context, listed: set[str], whole: bool) -> None:
    """Hold the ids of trees and conversations to what they were made with."""
    for table, (name, _) in IDS.items():
        for row in context.warehouse.rows(
            f"SELECT {name}, policy_digest, goal_id, seed, settings_digest, retry FROM {table}"
        ):
            if whole or row[name] in listed:
                context.broken(f"{table} {row[name]}", *id_faults(table, row))


def id_faults(table: str, row: Mapping[str, Any]) -> list[str]:
    """Say where the id of a tree or conversation is not the hash of what it was made with."""
    name, named = IDS[table]
    right = named(row["policy_digest"], row["goal_id"], row["seed"], row["settings_digest"], row["retry"])
    kind = "Tree" if table == "trees" else "Conversation"
    if right == row[name]:
        return []
    return [f"{kind} {row[name]} has the policy, goal, seed, settings and retry of {right}."]


def check_generation(context: Context, written: Written) -> None:
    """Hold a generation to its rows, its run and its inputs, and say what it is now."""
    context.audit.checked["generations"] += 1
    for finding in (*digest_findings(context, written), *_rows_findings(context, written)):
        context.audit.add(finding.status, finding.where, finding.message)


def _rows_findings(context: Context, written: Written) -> Iterable[Finding]:
    if written.removed:
        return
    one = written.generation
    layout = context.warehouse.layout.stages[one.stage]
    with context.warehouse.connection() as connection:
        counts, content = generation_rows(connection, layout, one.scope, one.number)
    for table in sorted({*counts, *written.rows}):
        more = counts.get(table, 0) - written.rows.get(table, 0)
        if more:
            rows = f"{number_of(abs(more), 'row')} of table {table}"
            message = f"It has {rows} more than was written." if more > 0 else f"It lacks {rows}."
            yield Finding("broken", written.name, message)
    if content != written.content:
        message = "Its rows do not add up to its content: some were altered together with their digests, "
        yield Finding("broken", written.name, message + "added, or removed.")


def digest_findings(context: Context, written: Written) -> list[Finding]:
    """Hold a generation's digest to its run and its inputs, and say what became of those."""
    found = [
        Finding("broken", written.name, f"It was made from {_said(one)}, which the store does not hold.")
        for one in written.inputs
        if one not in context.known
    ]
    found += superseded_findings(context.known, written.generation)
    found += current_findings(context.known, written)
    if written.removed:
        message = "Its rows were removed by josh gc; its digest still links what came before and after."
        found.append(Finding("removed", written.name, message))
    one = written.generation
    inputs = {each.key: each.number for each in written.inputs}
    with context.warehouse.connection() as connection:
        digest = generation_digest(
            connection, one.stage, one.scope, one.number, written.run_id, inputs, written.content
        )
    if digest != written.digest:
        message = "Its digest does not follow from its content, its run and what it was made from."
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


def superseded_findings(known: History, generation: Generation) -> list[Finding]:
    """Say what a rerun has replaced: a generation itself, or the first ones that it descends from."""
    found: list[Finding] = []
    waiting, seen = [generation], {generation}
    while waiting:
        one = waiting.pop(0)
        if one not in known:
            continue
        newest = one if known[one].current else newest_of(known, one.key) or one
        if newest == one:
            waiting += [each for each in known[one].inputs if each not in seen]
            seen |= set(waiting)
            continue
        if one == generation:
            message = f"Generation {newest.number} has replaced it since."
        else:
            how = "was made" if one in known[generation].inputs else "descends"
            message = f"It {how} from {_said(one)}, which generation {newest.number} has replaced since."
        found.append(Finding("superseded", known[generation].name, message))
    return found


def _said(generation: Generation) -> str:
    return f"{generation.key} generation {generation.number}"


def check_strays(context: Context) -> None:
    """Find rows of generations that the store does not list, and numbers that are left out."""
    for stage in context.warehouse.layout.stages.values():
        for table in stage.tables:
            for row in context.warehouse.rows(
                f"SELECT {stage.scope} AS scope, generation, count(*) AS n FROM {table} t WHERE NOT EXISTS "
                f"(FROM generations g WHERE g.stage = '{stage.name}' AND g.scope = t.{stage.scope} "
                "AND g.generation = t.generation AND g.removed_at IS NULL) GROUP BY ALL ORDER BY ALL"
            ):
                where = f"{stage.name}/{row['scope']}/{row['generation']}"
                message = f"Table {table} holds {number_of(row['n'], 'row')} of it, and the store does not list it."
                context.broken(where, message)
    numbers = Counter(generation.key for generation in context.known)
    for generation in context.known:
        if generation.number > numbers[generation.key]:
            listed = number_of(numbers[generation.key], "generation")
            message = f"It is number {generation.number}, and the store lists only {listed}: one is missing."
            context.broken(context.known[generation].name, message)
