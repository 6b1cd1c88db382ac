"""Trees, labels and training rows computed anew from what they were made from."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from josh_pipeline.audit.context import Context, StoredTrees, differences
from josh_pipeline.core.content import content_id
from josh_pipeline.core.errors import RolloutError
from josh_pipeline.core.world import World
from josh_pipeline.harvest.labels import Labels, disagreements, relabel
from josh_pipeline.harvest.rows import Row, Side, held_out, row_from_record, row_record
from josh_pipeline.search.tree import Tree
from josh_pipeline.settings import Settings
from josh_pipeline.stages.labels import label_records, tree_label_record
from josh_pipeline.stages.preferences import harvested_from, row_length
from josh_pipeline.store.lineage import Written
from josh_pipeline.store.warehouse import Generation


def check_rollouts(context: Context, written: Written) -> None:
    """Recompute the ids of an iteration's nodes, and every label of its trees from the calls.

    The generations of stage ``labels`` that were made from these trees are held to that at once: the calls
    are played again only here.
    """
    labels = [
        one
        for one in context.chosen
        if one.stage == "labels" and context.readable(one) and written.generation in context.known[one].inputs
    ]
    policy = context.row("policies", written.input("policy"))
    trees = StoredTrees(context, written.generation)
    for batch in trees.batches():
        right = _check_batch(context, written, policy, batch)
        for generation in labels:
            _check_labels(context, generation, right)
    for generation in labels:
        _check_no_other_labels(context, generation, trees.ids)


def _check_batch(
    context: Context, written: Written, policy: dict[str, Any] | None, trees: Sequence[Tree]
) -> dict[str, tuple[Tree, Labels]]:
    """Check some trees; return them with their labels, by id."""
    source = context.ancestor(written, "goals")
    environment = context.environment(source) if source is not None else None
    goals = context.tasks(source, [tree.goal_id for tree in trees]) if source is not None else {}
    right: dict[str, tuple[Tree, Labels]] = {}
    for tree in trees:
        where = f"trees {tree.rollout_id}"
        context.audit.checked["trees"] += 1
        context.audit.checked["nodes"] += len(tree.nodes)
        context.broken(where, *tree_faults(tree))
        if policy is not None and tree.policy_digest != policy["policy_digest"]:
            message = f"Tree {tree.rollout_id} was grown by policy {tree.policy_digest}, not by that of "
            context.broken(where, f"{message}{written.generation.scope}.")
        if environment is None:
            continue
        if tree.goal_id not in goals:
            message = f"Tree {tree.rollout_id} was grown for goal {tree.goal_id}, which the store does not hold."
            context.broken(where, message)
        else:
            found = relabelled(tree, environment.world(goals[tree.goal_id], searching=True))
            if isinstance(found, str):
                context.broken(where, found)
            else:
                right[tree.rollout_id] = (tree, found)
                context.broken(where, *disagreements(tree, found))
    return right


def relabelled(tree: Tree, world: World) -> Labels | str:
    """Return the labels that follow from a tree's calls, or why none can follow."""
    if orphans := [node.node_id for node in tree.nodes if node.parent_id not in {None, *tree.by_id}]:
        return f"Tree {tree.rollout_id} lacks the parent of node {orphans[0]}."
    try:
        return relabel(tree, world)
    except RolloutError as fault:
        return f"The calls of tree {tree.rollout_id} cannot be made again: {fault.message}"


def tree_faults(tree: Tree) -> list[str]:
    """Say where a tree's nodes are not named by their paths, and where a path says that one is missing."""
    found = []
    for node in tree.nodes:
        if content_id(tree.rollout_id, node.path) != node.node_id:
            found.append(f"Node {node.node_id} does not stand at path {list(node.path)} of its tree.")
        parent = content_id(tree.rollout_id, node.path[:-1]) if node.path else None
        if node.parent_id != parent:
            found.append(f"Node {node.node_id} names parent {node.parent_id}, and its path says {parent}.")
    paths = {node.path for node in tree.nodes}
    parents = {path[:-1] for path in paths if path}
    elder = {(*path[:-1], path[-1] - 1) for path in paths if path and path[-1]}
    for path in sorted((parents | elder) - paths):
        name = content_id(tree.rollout_id, path)
        found.append(f"Node {name} at path {list(path)} of tree {tree.rollout_id} is missing.")
    return found


def _check_labels(context: Context, generation: Generation, right: Mapping[str, tuple[Tree, Labels]]) -> None:
    expected = {
        "labels": {one["node_id"]: one for _, labels in right.values() for one in label_records(labels)},
        "tree_labels": {name: tree_label_record(*found) for name, found in right.items()},
    }
    for table, kind, key in (("labels", "node", "node_id"), ("tree_labels", "tree", "rollout_id")):
        rows = context.warehouse.rows(
            f"SELECT * FROM {table} WHERE iteration = ? AND generation = ? AND list_contains(?, rollout_id)",
            [generation.scope, generation.number, list(right)],
        )
        stored = {row[key]: row for row in rows}
        for name, record in expected[table].items():
            label = f"The label of {kind} {name}"
            faults = differences(label, stored[name], record) if name in stored else [f"{label} is missing."]
            context.broken(f"{table} {name}", *faults)
        for name in sorted(stored.keys() - expected[table].keys()):
            message = f"The label of {kind} {name} does not follow: its tree has no such {kind}."
            context.broken(f"{table} {name}", message)
        if table == "labels":
            context.audit.checked["labels"] += len(rows)


def _check_no_other_labels(context: Context, generation: Generation, ids: Collection[str]) -> None:
    """Find labels of trees that are not the labelled ones."""
    for table, key in (("labels", "node_id"), ("tree_labels", "rollout_id")):
        for row in context.warehouse.rows(
            f"SELECT {key} AS name FROM {table} WHERE iteration = ? AND generation = ? "
            "AND rollout_id NOT IN (SELECT unnest(?)) ORDER BY ALL",
            [generation.scope, generation.number, list(ids)],
        ):
            message = f"The label {row['name']} is of no tree that {context.known[generation].name} was made from."
            context.broken(f"{table} {row['name']}", message)


def check_preferences(context: Context, written: Written) -> None:
    """Harvest the trees anew and hold what comes of it to the stored rows."""
    stored = context.rows("preference_rows", written.generation, "position")
    for record in stored:
        context.broken(f"preference_rows {record['row_id']}", *row_faults(record))
    context.audit.checked["training rows"] += len(stored)
    settings, source = context.settings(written), written.input("rollouts")
    goals = context.ancestor(written, "goals")
    if settings is None or source is None or goals is None or not context.readable(source):
        return
    roles = [(row["goal_id"], row["source_id"], row["role"]) for row in context.rows("goals", goals)]
    trees = StoredTrees(context, source)
    harvested = harvested_from(trees, settings, held_out([tree.goal_id for tree in trees], roles))
    right = {row.row_id: row for row in harvested.rows}
    for record in stored:
        where, name = f"preference_rows {record['row_id']}", f"Training row {record['row_id']}"
        row = right.get(record["row_id"])
        if row is None:
            context.broken(where, f"{name} does not come from the trees of {source.key} generation {source.number}.")
        else:
            if '"prompt_digest":' not in record["sides"]:  # of a release that did not note it
                row = replace(row, sides=tuple(map(_without_digests, row.sides)))
            # Its length only the model's tokenizer can tell.
            context.broken(where, *differences(name, record | {"tokens": 0}, row_record(row)))
    kept = {record["row_id"] for record in stored}
    _check_left_out(context, written, settings, _owed(harvested.rows, kept))
    wanted = {tuple(sorted(asdict(one).items())) for one in harvested.origins if one.row_id in kept}
    links = {
        tuple(sorted((k, row[k]) for k in ("row_id", "node_id", "rollout_id", "part")))
        for row in context.rows("row_nodes", written.generation)
    }
    for link in sorted(wanted ^ links):
        one = dict(link)
        what = "is missing" if link in wanted else "does not come from the trees"
        message = f"The link from row {one['row_id']} to node {one['node_id']} ({one['part']}) {what}."
        context.broken(f"row_nodes {one['row_id']}/{one['node_id']}", message)


def _without_digests(side: Side) -> Side:
    return replace(side, said=tuple(replace(one, prompt_digest=None) for one in side.said))


def _owed(rows: Sequence[Row], kept: set[str]) -> list[Row]:
    """Return the rows of a harvest that are not stored, without those that other rows keep out.

    The rivals of a desirable message that was too long go with it.
    """
    answered = {row.prompt_id for row in rows if row.good and row.row_id in kept}
    return [row for row in rows if row.row_id not in kept and (not row.rival or row.prompt_id in answered)]


def row_faults(record: Mapping[str, Any]) -> list[str]:
    """Say whether a stored training row is what its id says."""
    right = row_from_record(record).row_id
    if right == record["row_id"]:
        return []
    return [f"Training row {record['row_id']} has the prompt, sides and labels of row {right}."]


def _check_left_out(context: Context, written: Written, settings: Settings, rows: list[Row]) -> None:
    """Only what training would have to cut may be left out of a harvest."""
    policy = context.row("policies", written.input("policy"))
    if not rows or policy is None:
        return
    if policy["base_path"] and not context.home.absolute(policy["base_path"]).is_dir():
        message = f"{len(rows)} rows of the harvest were not kept, and without {policy['base_path']} "
        context.audit.add("unchecked", written.name, message + "their lengths cannot be counted.")
        return
    tokens = row_length(context.home, policy["base_path"])
    for row in rows:
        if tokens(row) <= settings.training.max_tokens:
            message = f"Training row {row.row_id} comes from tree {row.source.rollout_id} and is missing."
            context.broken(f"preference_rows {row.row_id}", message)


def derives(row: Row, tree: Tree, settings: Settings) -> bool:
    """Tell whether a training row comes from a tree; what other trees say of it is not asked."""
    alone = harvested_from([tree], settings, frozenset())
    return row.row_id in {one.row_id for one in alone.rows}
