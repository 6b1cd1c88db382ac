"""Stage ``labels``: every label of the stored trees computed anew from the stored calls."""

import json
from typing import Any

from josh_pipeline.core.errors import UserError, at_fault
from josh_pipeline.harvest.labels import Labels, disagreements, node_disagreements, relabel
from josh_pipeline.search.tree import Tree
from josh_pipeline.stages.environment import stored_tasks
from josh_pipeline.stages.playing import environment_of
from josh_pipeline.stages.policy import iterating_policy, made_with
from josh_pipeline.stages.rollouts import trees_of
from josh_pipeline.stages.stage import Check, Made, Stage, Step, Verdict

SHOWN_DIFFERENCES = 20


def label_rewards(step: Step, iteration: str) -> Made:
    """Replay the calls of every tree of an iteration and write down the labels that follow from them.

    Raises:
        UserError: there are no trees, or policy or goals of the iteration have changed since they were grown.
    """
    policy = iterating_policy(step, iteration)
    source = made_with(step, policy, "rollouts")
    trees = trees_of(step.warehouse, source)
    environment = environment_of(step, policy)
    ids = [tree.goal_id for tree in trees]
    goals = {
        goal.goal_id: goal
        for goal in stored_tasks(step.warehouse, policy.goals_scope, of=environment.Task, ids=ids, usable=False)
    }
    if unknown := set(ids) - goals.keys():
        raise UserError(
            f"{len(unknown)} trees of iteration {iteration} are of goals that are not in the store any more: "
            f"materialize {step.asset('rollouts')} of iteration {iteration} again."
        )
    nodes: list[dict[str, Any]] = []
    whole: list[dict[str, Any]] = []
    differences: list[str] = []
    step.progress.start("Labels", len(trees))
    for tree in trees:
        with at_fault(f"Playing the calls of tree {tree.rollout_id} again"):
            labels = relabel(tree, environment.world(goals[tree.goal_id], searching=True))
        wrong = disagreements(tree, labels)
        differences += wrong
        for record in label_records(labels):
            found = node_disagreements(tree.by_id[record["node_id"]], labels)
            told = {"agrees": not found, "difference": " ".join(found) or None}
            nodes.append({"rollout_id": tree.rollout_id} | record | told)
        whole.append(tree_label_record(tree, labels) | {"agrees": not wrong})
        step.progress.advance("Labels")
    step.progress.finish("Labels")
    tables = {"labels": nodes, "tree_labels": whole}
    generation = step.warehouse.publish("labels", iteration, step.run_id, tables, [policy.source, source])
    calls = sum(len(node.calls) for tree in trees for node in tree.nodes)
    sentence = f"All labels of {len(nodes)} nodes agree, from {calls} calls replayed."
    if differences:
        sentence = f"{len(differences)} labels differ from what the search noted."
    counts = {"calls replayed": calls, "differences": len(differences)}
    return Made(
        generation,
        version=step.warehouse.content_of(generation),
        rows=len(nodes),
        facts={
            "trees": len(trees),
            "nodes": len(nodes),
            "golden nodes": sum(node["golden"] for node in nodes),
            "successful nodes": sum(node["successful"] for node in nodes),
        }
        | counts,
        verdicts={
            "labels_agree": Verdict(
                not differences, sentence, counts | {"first differences": differences[:SHOWN_DIFFERENCES]}
            )
        },
    )


def label_records(labels: Labels) -> list[dict[str, Any]]:
    """Return the columns of table ``labels`` that follow from the calls, a row a node."""
    return [
        {
            "node_id": node_id,
            "golden": one.golden,
            "successful": one.successful,
            "earned": json.dumps(one.earned),
            "call_earned": json.dumps(one.calls),
        }
        for node_id, one in labels.nodes.items()
    ]


def tree_label_record(tree: Tree, labels: Labels) -> dict[str, Any]:
    """Return the columns of table ``tree_labels`` that follow from the calls."""
    return {
        "rollout_id": tree.rollout_id,
        "goal_id": tree.goal_id,
        "earned": json.dumps(labels.earned),
        "reward": labels.reward,
    }


STAGE = Stage(
    name="labels",
    asset="reward_labels",
    about="Every label of the trees (what a call earned, golden, successful, the tree's reward) computed anew "
    "from the stored calls, independently of the search.",
    tables={"labels": ("node_id",), "tree_labels": ("rollout_id",)},
    inputs=("policy", "rollouts"),
    make=label_rewards,
    checks=(
        Check(
            "labels_agree",
            "Every label computed from the stored calls is the one that the search noted online.",
            blocking=True,
        ),
    ),
    sample="SELECT rollout_id AS tree, node_id AS node, golden, successful, earned, call_earned AS "
    '"earned by call", agrees FROM current_labels WHERE iteration = ? AND successful ORDER BY ALL',
    origins={
        "labels.rollout_id": ["nodes.rollout_id"],
        "labels.node_id": ["nodes.node_id"],
        "labels.golden": ["nodes.calls", "goals.calls"],
        "labels.successful": ["nodes.calls", "goals.calls"],
        "labels.earned": ["nodes.calls", "goals.calls"],
        "labels.call_earned": ["nodes.calls", "goals.calls"],
        "labels.agrees": ["nodes.golden", "nodes.successful", "nodes.earned"],
        "tree_labels.rollout_id": ["trees.rollout_id"],
        "tree_labels.goal_id": ["trees.goal_id"],
        "tree_labels.reward": ["nodes.calls", "goals.calls"],
        "tree_labels.agrees": ["trees.reward", "trees.earned"],
    },
)
