"""Trees, labels and training rows computed anew from what they were made from."""

import json
from collections.abc import Sequence
from typing import Any

from josh_pipeline.audit.context import BATCH, Context, StoredTrees
from josh_pipeline.audit.sources import differences
from josh_pipeline.core.ids import content_id
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.environments.toolwoz.world import ToolWozWorld, worlds
from josh_pipeline.harvest.codec import link_record, row_from_record, row_record
from josh_pipeline.harvest.harvest import harvest
from josh_pipeline.harvest.labels import Labels, disagreements, relabel
from josh_pipeline.harvest.rows import DpoRow, KtoRow, Row, prompt_id
from josh_pipeline.search.search import rollout_id
from josh_pipeline.search.tree import Tree
from josh_pipeline.settings import Settings
from josh_pipeline.stages.preferences import row_length
from josh_pipeline.stages.step import Step
from josh_pipeline.store.home import Home
from josh_pipeline.store.lineage import Written
from josh_pipeline.store.warehouse import Generation, Warehouse


def check_rollouts(context: Context, written: Written, labels: Sequence[Generation]) -> None:
    """Recompute the ids of an iteration's trees and nodes, and every label from the calls.

    Args:
        labels: generations of stage ``labels`` that were made from these trees.
    """
    policy = context.row("policies", written.input("policy"))
    trees = StoredTrees(context, written.generation)
    number = len(context.replaced(written.generation))
    for one in (written, *(context.known[generation] for generation in labels)):
        context.note_replaced(one, written.generation, number)
    batch: list[Tree] = []
    seen = set()
    for tree in trees:
        seen.add(tree.rollout_id)
        batch.append(tree)
        if len(batch) == BATCH:
            _check_batch(context, written, policy, batch, labels)
            batch = []
    _check_batch(context, written, policy, batch, labels)
    for missing in sorted(set(trees.ids) - seen):
        message = f"Tree {missing} is missing, and {written.name} lists it."
        context.audit.add("broken", f"trees {missing}", message)


def _check_batch(
    context: Context,
    written: Written,
    policy: dict[str, Any] | None,
    trees: list[Tree],
    labels: Sequence[Generation],
) -> None:
    source = context.ancestor(written, "goals")
    corpus = context.ancestor(written, "corpus")
    goals = context.goals(source, [tree.goal_id for tree in trees]) if source is not None else {}
    right: dict[str, Labels] = {}
    for tree in trees:
        where = f"trees {tree.rollout_id}"
        context.audit.checked["trees"] += 1
        context.audit.checked["nodes"] += len(tree.nodes)
        context.audit.broken(where, tree_faults(tree))
        if policy is not None and tree.policy_digest != policy["policy_digest"]:
            message = f"Tree {tree.rollout_id} was grown by policy {tree.policy_digest}, not by that of "
            context.audit.add("broken", where, message + f"{written.generation.scope}.")
        if tree.goal_id not in goals:
            message = (
                f"Tree {tree.rollout_id} was grown for goal {tree.goal_id}, which the store does not hold."
            )
            context.audit.add("broken", where, message)
        elif corpus is not None and tree.failure is None:
            goal, semantics = goals[tree.goal_id]
            world = worlds(context.corpus(corpus), semantics, inside_search=True)(goal)
            found = relabelled(tree, world)
            if isinstance(found, str):
                context.audit.add("broken", where, found)
            else:
                right[tree.rollout_id] = found
                context.audit.broken(where, disagreements(tree, found))
    replaced = context.replaced(written.generation)
    as_listed = {name: found for name, found in right.items() if name not in replaced}
    for generation in labels:
        _check_labels(context, generation, as_listed)


def relabelled(tree: Tree, world: ToolWozWorld) -> Labels | str:
    """Return the labels that follow from a tree's calls, or why none can follow."""
    if orphans := [node.node_id for node in tree.nodes if node.parent_id not in {None, *tree.by_id}]:
        return f"Tree {tree.rollout_id} lacks the parent of node {orphans[0]}."
    return relabel(tree, world)


def tree_faults(tree: Tree) -> list[str]:
    """Say where the ids of a tree and its nodes are not the hashes of what they name."""
    found = []
    right = rollout_id(tree.policy_digest, tree.goal_id, tree.seed, tree.settings_digest)
    if right != tree.rollout_id:
        found.append(f"Tree {tree.rollout_id} has the policy, goal, seed and settings of tree {right}.")
    for node in tree.nodes:
        if content_id(tree.rollout_id, node.path) != node.node_id:
            found.append(f"Node {node.node_id} does not stand at path {list(node.path)} of its tree.")
        parent = content_id(tree.rollout_id, node.path[:-1]) if node.path else None
        if node.parent_id != parent:
            found.append(f"Node {node.node_id} names parent {node.parent_id}, and its path says {parent}.")
    return found


def _check_labels(context: Context, generation: Generation, right: dict[str, Labels]) -> None:
    ids = list(right)
    of = [generation.scope, generation.number, ids]
    where = "WHERE iteration = ? AND generation = ? AND list_contains(?, rollout_id)"
    nodes = context.warehouse.rows(f"SELECT * FROM labels {where}", of)
    whole = {
        row["rollout_id"]: row for row in context.warehouse.rows(f"SELECT * FROM tree_labels {where}", of)
    }
    stored = {row["node_id"]: row for row in nodes}
    for name in ids:
        labels = right[name]
        for node_id, label in labels.nodes.items():
            expected = {
                "golden": label.golden,
                "successful": label.successful,
                "earned": json.dumps(label.earned),
                "call_earned": json.dumps(label.calls),
            }
            _held(context, f"labels {node_id}", f"The label of node {node_id}", stored.get(node_id), expected)
        expected = {"earned": json.dumps(labels.earned), "reward": labels.reward}
        _held(context, f"tree_labels {name}", f"The label of tree {name}", whole.get(name), expected)
    context.audit.checked["labels"] += len(nodes)


def _held(
    context: Context, where: str, name: str, stored: dict[str, Any] | None, right: dict[str, Any]
) -> None:
    if stored is None:
        context.audit.add("broken", where, f"{name} is missing.")
    else:
        context.audit.broken(where, differences(name, stored, right))


def check_preferences(context: Context, written: Written) -> None:
    """Harvest the trees anew and hold what comes of it to the stored rows."""
    settings, source = context.settings(written), written.input("rollouts")
    stored = context.rows("preference_rows", written.generation, "position")
    for record in stored:
        context.audit.broken(f"preference_rows {record['row_id']}", row_faults(record))
    context.audit.checked["training rows"] += len(stored)
    if settings is None or source is None or context.known.get(source) is None:
        return
    if context.known[source].removed:
        return
    goals = context.ancestor(written, "goals")
    forbidden = frozenset(
        row["goal_id"] for row in context.rows("goals", goals) if row["role"] != "train"
    ) if goals is not None else frozenset()  # fmt: skip
    replaced = context.replaced(source)
    context.note_replaced(written, source, len(replaced))
    trees = StoredTrees(context, source, replaced)
    harvested = harvest(trees, settings.training.method, settings.harvest.mode, forbidden)
    right = {row.row_id: row for row in harvested.rows}
    for record in stored:
        if record["rollout_id"] in replaced:
            continue
        where, name = f"preference_rows {record['row_id']}", f"Training row {record['row_id']}"
        row = right.get(record["row_id"])
        if row is None:
            message = f"{name} does not come from the trees of {source.key} generation {source.number}."
            context.audit.add("broken", where, message)
        else:
            context.audit.broken(where, differences(name, record, row_record(row)))
    kept = {record["row_id"] for record in stored}
    _check_left_out(context, written, settings, _owed(harvested.rows, kept, bool(replaced)))
    wanted = {tuple(sorted(link_record(link).items())) for link in harvested.links if link.row_id in kept}
    links = {
        tuple(sorted((k, row[k]) for k in ("row_id", "node_id", "rollout_id", "part")))
        for row in context.rows("row_nodes", written.generation)
        if row["rollout_id"] not in replaced
    }
    for link in sorted(wanted ^ links):
        one = dict(link)
        what = "is missing" if link in wanted else "does not come from the trees"
        message = f"The link from row {one['row_id']} to node {one['node_id']} ({one['part']}) {what}."
        context.audit.add("broken", f"row_nodes {one['row_id']}/{one['node_id']}", message)


def _owed(rows: Sequence[Row], kept: set[str], incomplete: bool) -> list[Row]:
    """Return the rows of a harvest that are not stored, without those that other rows keep out.

    Args:
        incomplete: trees are lacking. What one of them called good is called worse nowhere.
    """
    answered = {
        prompt_id(row.tools, row.prompt)
        for row in rows
        if isinstance(row, KtoRow) and row.desirable and row.row_id in kept
    }
    found = []
    for row in rows:
        worse = isinstance(row, DpoRow) or (isinstance(row, KtoRow) and not row.desirable)
        # The rivals of a desirable row that was too long go with it.
        alone = isinstance(row, KtoRow) and worse and prompt_id(row.tools, row.prompt) not in answered
        if row.row_id not in kept and not alone and not (worse and incomplete):
            found.append(row)
    return found


def row_faults(record: dict[str, Any]) -> list[str]:
    """Say whether a stored training row is what its id says."""
    right = row_from_record(record).row_id
    if right == record["row_id"]:
        return []
    return [f"Training row {record['row_id']} has the prompt, completion and label of row {right}."]


def _check_left_out(context: Context, written: Written, settings: Settings, rows: list[Row]) -> None:
    """Only what training would have to cut may be left out of a harvest."""
    policy = context.row("policies", written.input("policy"))
    if not rows or policy is None:
        return
    if policy["base_path"] and not context.home.absolute(policy["base_path"]).is_dir():
        message = f"{len(rows)} rows of the harvest were not kept, and without {policy['base_path']} "
        context.audit.add("unchecked", written.name, message + "their lengths cannot be counted.")
        return
    tokens = row_length(_reader(context.home, context.warehouse, settings), policy["base_path"])
    for row in rows:
        if tokens(row) <= settings.training.max_tokens:
            message = f"Training row {row.row_id} comes from tree {row.source.rollout_id} and is missing."
            context.audit.add("broken", f"preference_rows {row.row_id}", message)


def _reader(home: Home, warehouse: Warehouse, settings: Settings) -> Step:
    return Step(home, warehouse, settings, run_id="", progress=SilentProgress())


def derives(row: Row, tree: Tree, settings: Settings) -> bool:
    """Tell whether a training row comes from a tree; what other trees say of it is not asked."""
    alone = harvest([tree], settings.training.method, settings.harvest.mode, frozenset())
    return row.row_id in {one.row_id for one in alone.rows}
