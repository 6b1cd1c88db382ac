"""Corpus, goals, base and policy computed anew from what they were made from."""

from collections.abc import Mapping
from typing import Any

from josh_pipeline.audit.context import Context, differences
from josh_pipeline.policies.models import digest_like
from josh_pipeline.policies.weights import made_of, policy_digest
from josh_pipeline.stages.cold_start import base_files_digest
from josh_pipeline.stages.goals import oracle_verdicts, task_records
from josh_pipeline.stages.policy import policy_row
from josh_pipeline.store.lineage import Written


def check_corpus(context: Context, written: Written) -> None:
    """Recompute the counts of a corpus, and its digest from what was read, where the environment can.

    A corpus that is named by the bytes of its files, which are not in the store, is held to its rows'
    digests, and its goals to its sources.
    """
    about = context.row("corpora", written.generation)
    if about is None:
        return
    for table in ("sources", "entities"):
        number = len(context.rows(table, written.generation))
        if about[table] != number:
            context.broken(written.name, f"It says that it has {about[table]} {table}, and has {number}.")
        context.audit.checked[table] += number
    environment = context.environment(written.generation, sources=True)
    right = environment.check_digest() if environment is not None else None
    if right not in (None, about["corpus_digest"]):
        context.broken(written.name, f"What it holds has the digest {right}, not {about['corpus_digest']}.")


def check_goals(context: Context, written: Written) -> None:
    """Derive the tasks anew from the stored sources, hold each to its row, and let the oracle play them anew."""
    source = written.input("corpus")
    environment = context.environment(written.generation, sources=True)
    if source is None or environment is None:
        return
    tasks = environment.tasks()
    _check_solvability(context, written, {row["goal_id"]: row for row in oracle_verdicts(environment, tasks)})
    right = {row["goal_id"]: row for row in task_records(environment, tasks)}
    stored = {row["goal_id"]: row for row in context.rows("goals", written.generation)}
    context.audit.checked["goals derived again"] += len(right)
    for goal_id, row in right.items():
        found = stored.get(goal_id)
        where = f"goals {goal_id}"
        if found is None:
            message = f"Goal {goal_id} follows from source {row['source_id']} and is missing from "
            context.broken(where, f"{message}{written.name}.")
        else:
            # A position says where a goal stands among the others, not what it is.
            content = {column: value for column, value in row.items() if column != "position"}
            context.broken(where, *differences(f"Goal {goal_id}", found, content))
    for goal_id in stored.keys() - right.keys():
        message = f"Goal {goal_id} does not follow from source {stored[goal_id]['source_id']} as it is stored "
        context.broken(f"goals {goal_id}", f"{message}in {source.key}.")


def _check_solvability(context: Context, written: Written, right: Mapping[str, Mapping[str, Any]]) -> None:
    stored = {row["goal_id"]: row for row in context.rows("solvability", written.generation)}
    for goal_id in sorted(right.keys() | stored.keys()):
        where, name = f"solvability {goal_id}", f"What the oracle got of goal {goal_id}"
        if goal_id not in stored:
            context.broken(where, f"{name} is missing.")
        elif goal_id not in right:
            context.broken(where, f"{name} does not follow: there is no oracle for it.")
        else:
            context.broken(where, *differences(name, stored[goal_id], right[goal_id]))


def check_base(context: Context, written: Written) -> None:
    """Hold a base model's files to its digests."""
    row = context.row("base_models", written.generation)
    if row is None or not row["base_path"]:
        return
    where = f"base_models {row['base_digest']}"
    foundation = context.home.absolute(row["foundation_path"])
    if foundation.is_dir():
        check_folder(context, where, row["foundation_path"], row["foundation_digest"])
    else:
        message = f"The foundation is not at {row['foundation_path']} any more, so its files were not read."
        context.audit.add("unchecked", where, message)
    expected = row["foundation_digest"]
    if row["adapter_digest"] is not None:
        check_folder(context, where, row["adapter_path"], row["adapter_digest"])
        expected = made_of("base", row["foundation_digest"], row["adapter_digest"])
        merged = base_files_digest(row)
        if merged is None:
            context.audit.add(
                "unchecked", where, f"An earlier release kept no digest of the files in {row['base_path']}."
            )
        else:
            check_folder(context, where, row["base_path"], merged)
    if expected != row["base_digest"]:
        message = f"Base {row['base_digest']} is not its foundation with its cold start: that is {expected}."
        context.broken(where, message)


def check_folder(context: Context, where: str, stored_path: str, digest: str) -> None:
    """Hold the files of a model folder to a digest."""
    folder = context.home.absolute(stored_path)
    context.audit.checked["model folders"] += 1
    if not folder.is_dir():
        context.broken(where, f"The files of {digest} are missing: there is no folder {stored_path}.")
        return
    right = digest_like(folder, digest)
    if right != digest:
        context.broken(where, f"The files in {stored_path} have the digest {right}, not {digest}: one was altered.")


def check_policy(context: Context, written: Written) -> None:
    """Hold the policy of an iteration to its base, its corpus and the promotion that it came from."""
    row = context.row("policies", written.generation)
    if row is None:
        return
    where = f"policies {row['policy_digest']}"
    right = policy_digest(row["base_digest"], row["adapter_digest"])
    if right != row["policy_digest"]:
        context.broken(where, f"Policy {row['policy_digest']} is not its base with its adapter: that is {right}.")
    base = context.row("base_models", written.input("cold_start"))
    goals = written.input("goals")
    corpus = context.known[goals].input("corpus") if goals in context.known else None
    about = context.row("corpora", corpus)
    promotion = context.row("promotions", written.input("promotion"))
    if promotion is not None:
        if not promotion["promoted"]:
            message = f"Iteration {promotion['iteration']} did not promote the policy of {row['iteration']}."
            context.broken(where, message)
        columns = ("policy_digest", "adapter_digest", "adapter_path", "base_digest", "base_path")
        context.linked(where, row, promotion, columns, "promotion")
    elif base is not None:
        context.linked(where, row, base, ("base_digest", "base_path", "model"), "base")
    if about is not None:
        context.linked(where, row, about, ("corpus_digest",), "corpus")


def check_together(context: Context, where: str, written: Written) -> None:
    """Hold what a generation of an iteration was made from to the policy that it was made with itself."""
    row = context.row("policies", written.input("policy"))
    if row is None:
        return
    own = policy_row(row)
    for source in written.inputs:
        if source.scope != own.iteration or source not in context.known:
            continue
        behind = context.row("policies", context.known[source].input("policy"))
        if behind is None or policy_row(behind).identity == own.identity:
            continue
        other = policy_row(behind)
        message = (
            f"It was made with policy {own.policy_digest} (attempt {own.attempt}, line {own.line}), and from "
            f"{source.key} generation {source.number}, which was made with policy {other.policy_digest} "
            f"(attempt {other.attempt}, line {other.line})."
        )
        context.broken(where, message)
