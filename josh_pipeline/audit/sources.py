"""Corpus, goals, base and policy computed anew from what they were made from."""

from collections.abc import Mapping
from typing import Any

from josh_pipeline.audit.context import Context
from josh_pipeline.core.ids import content_id
from josh_pipeline.environments.toolwoz.sample import SAMPLE_SOURCE, sample_digest
from josh_pipeline.policies.models import model_digest
from josh_pipeline.policies.weights import policy_digest
from josh_pipeline.stages.goals import derived_goals, goal_records
from josh_pipeline.stages.policy import PolicyRow
from josh_pipeline.store.lineage import Written


def check_corpus(context: Context, written: Written) -> None:
    """Recompute the digest of a corpus from its dialogues and databases.

    A MultiWOZ release is named by the bytes of its files, which are not in the store: its rows are held
    to their seals, and its goals to its dialogues.
    """
    about = context.row("corpora", written.generation)
    if about is None:
        return
    corpus = context.corpus(written.generation, dialogues=True)
    counts = {"dialogues": len(corpus.dialogues), "entities": sum(map(len, corpus.databases.values()))}
    for name, number in counts.items():
        if about[name] != number:
            message = f"It says that it has {about[name]} {name}, and has {number}."
            context.audit.add("broken", written.name, message)
    context.audit.checked["dialogues"] += counts["dialogues"]
    if corpus.source == SAMPLE_SOURCE:
        right = sample_digest(corpus.dialogues, corpus.databases)
        if right != corpus.digest:
            message = f"Its dialogues and databases have the digest {right}, not {corpus.digest}."
            context.audit.add("broken", written.name, message)


def check_goals(context: Context, written: Written) -> None:
    """Derive the goals anew from the stored dialogues, and hold each to its row."""
    source, settings = written.input("corpus"), context.settings(written)
    if source is None or settings is None or source not in context.known:
        return
    if context.known[source].removed or context.row("corpora", source) is None:
        return
    corpus = context.corpus(source, dialogues=True)
    right = {
        row["goal_id"]: row
        for row in goal_records(corpus, derived_goals(corpus, settings.goals), settings.goals)
    }
    stored = {row["goal_id"]: row for row in context.rows("goals", written.generation)}
    context.audit.checked["goals derived again"] += len(right)
    for goal_id, row in right.items():
        found = stored.get(goal_id)
        where = f"goals {goal_id}"
        if found is None:
            message = f"Goal {goal_id} follows from dialogue {row['dialogue_id']} and is missing from "
            message += f"{written.name}."
            context.audit.add("broken", where, message)
        else:
            # A position says where a goal stands among the others, not what it is.
            content = {column: value for column, value in row.items() if column != "position"}
            context.audit.broken(where, differences(f"Goal {goal_id}", found, content))
    for goal_id in stored.keys() - right.keys():
        dialogue = stored[goal_id]["dialogue_id"]
        message = f"Goal {goal_id} does not follow from dialogue {dialogue} as it is stored in {source.key}."
        context.audit.add("broken", f"goals {goal_id}", message)


def differences(name: str, stored: Mapping[str, Any], right: Mapping[str, Any]) -> list[str]:
    """Say which columns of a stored row are not what they should be."""
    wrong = [column for column, value in right.items() if stored[column] != value]
    return [f"{name} has another {column} than follows from what it was made from." for column in wrong]


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
        expected = content_id("base", row["foundation_digest"], row["adapter_digest"])
    if expected != row["base_digest"]:
        message = f"Base {row['base_digest']} is not its foundation with its cold start: that is {expected}."
        context.audit.add("broken", where, message)


def check_folder(context: Context, where: str, stored_path: str, digest: str) -> None:
    """Hold the files of a model folder to a digest."""
    folder = context.home.absolute(stored_path)
    context.audit.checked["model folders"] += 1
    if not folder.is_dir():
        message = f"The files of {digest} are missing: there is no folder {stored_path}."
        context.audit.add("broken", where, message)
        return
    right = model_digest(folder)
    if right != digest:
        message = f"The files in {stored_path} have the digest {right}, not {digest}: one was altered."
        context.audit.add("broken", where, message)


def check_policy(context: Context, written: Written) -> None:
    """Hold the policy of an iteration to its base, its corpus and the promotion that it came from."""
    row = context.row("policies", written.generation)
    if row is None:
        return
    where = f"policies {row['policy_digest']}"
    right = policy_digest(row["base_digest"], row["adapter_digest"])
    if right != row["policy_digest"]:
        message = f"Policy {row['policy_digest']} is not its base with its adapter: that is {right}."
        context.audit.add("broken", where, message)
    base = context.row("base_models", written.input("cold_start"))
    goals = written.input("goals")
    corpus = context.known[goals].input("corpus") if goals in context.known else None
    about = context.row("corpora", corpus)
    promotion = context.row("promotions", written.input("promotion"))
    if promotion is not None:
        if not promotion["promoted"]:
            message = f"Iteration {promotion['iteration']} did not promote the policy of {row['iteration']}."
            context.audit.add("broken", where, message)
        linked(
            context, where, row, promotion, ("policy_digest", "adapter_digest", "base_digest"), "promotion"
        )
    elif base is not None:
        linked(context, where, row, base, ("base_digest", "model"), "base")
    if about is not None:
        linked(context, where, row, about, ("corpus_digest",), "corpus")


def check_together(context: Context, where: str, written: Written) -> None:
    """Hold what a generation of an iteration was made from to the policy that it was made with itself."""
    row = context.row("policies", written.input("policy"))
    if row is None:
        return
    own = PolicyRow(**row)
    for source in written.inputs:
        if source.scope != own.iteration or source not in context.known:
            continue
        behind = context.row("policies", context.known[source].input("policy"))
        if behind is None or PolicyRow(**behind).identity == own.identity:
            continue
        other = PolicyRow(**behind)
        message = (
            f"It was made with policy {own.policy_digest} (attempt {own.attempt}, line {own.line}), and from "
            f"{source.key} generation {source.number}, which was made with policy {other.policy_digest} "
            f"(attempt {other.attempt}, line {other.line})."
        )
        context.audit.add("broken", where, message)


def linked(
    context: Context,
    where: str,
    row: Mapping[str, Any],
    source: Mapping[str, Any],
    columns: tuple[str, ...],
    name: str,
) -> None:
    """Note the columns in which a row is not what its source says."""
    for column in columns:
        if row[column] != source[column]:
            message = f"Its {column} is {row[column]}, and that of its {name} is {source[column]}."
            context.audit.add("broken", where, message)
