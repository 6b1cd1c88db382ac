"""Step ``reward_labels``: every label of the stored trees computed anew from the stored calls."""

import json
from dataclasses import dataclass

import polars as pl

from josh_pipeline.environments.toolwoz.world import worlds
from josh_pipeline.harvest.labels import disagreements, node_disagreements, relabel
from josh_pipeline.search.tree import Tree
from josh_pipeline.stages.corpus import stored_corpus
from josh_pipeline.stages.goals import stored_goals
from josh_pipeline.stages.policy import iterating_policy, made_with
from josh_pipeline.stages.step import Step, one_at_a_time
from josh_pipeline.stages.trees import trees_of
from josh_pipeline.store.warehouse import Generation


@dataclass(frozen=True)
class LabelsSummary:
    """What was found.

    Attributes:
        golden, successful: nodes with the label, as computed from the calls.
        differences: one sentence for each label that the search noted otherwise.
    """

    generation: Generation
    trees: int
    nodes: int
    calls: int
    golden: int
    successful: int
    differences: tuple[str, ...]


@one_at_a_time
def label_rewards(step: Step, iteration: str) -> LabelsSummary:
    """Replay the calls of every tree of an iteration and write down the labels that follow from them.

    Raises:
        UserError: there are no trees, or the iteration's policy has changed since they were grown.
    """
    policy = iterating_policy(step, iteration)
    source = made_with(step, policy, "rollouts")
    trees = trees_of(step.warehouse, source)
    goals = {
        goal.goal_id: goal
        for goal in stored_goals(
            step.warehouse, policy.goals_scope, ids=[tree.goal_id for tree in trees], usable=False
        )
    }
    corpus = stored_corpus(step.warehouse, policy.corpus_scope, dialogues=False)
    world_of = worlds(corpus, step.settings.goals.semantics, inside_search=True)
    nodes: list[dict[str, object]] = []
    whole: list[dict[str, object]] = []
    differences: list[str] = []
    step.progress.start("Labels", len(trees))
    for tree in trees:
        labels = relabel(tree, world_of(goals[tree.goal_id]))
        wrong = disagreements(tree, labels)
        differences += wrong
        for node in tree.nodes:
            found = node_disagreements(node, labels)
            right = labels.nodes[node.node_id]
            nodes.append(
                {
                    "rollout_id": tree.rollout_id,
                    "node_id": node.node_id,
                    "golden": right.golden,
                    "successful": right.successful,
                    "earned": json.dumps(right.earned),
                    "call_earned": json.dumps(right.calls),
                    "agrees": not found,
                    "difference": " ".join(found) or None,
                }
            )
        whole.append(
            {
                "rollout_id": tree.rollout_id,
                "goal_id": tree.goal_id,
                "earned": json.dumps(labels.earned),
                "reward": labels.reward,
                "agrees": not wrong,
            }
        )
        step.progress.advance("Labels")
    step.progress.finish("Labels")
    tables = {
        "labels": pl.DataFrame(nodes, schema_overrides={"difference": pl.String}),
        "tree_labels": pl.DataFrame(whole),
    }
    generation = step.warehouse.publish("labels", iteration, step.run_id, tables, [policy.source, source])
    return LabelsSummary(
        generation=generation,
        trees=len(trees),
        nodes=len(nodes),
        calls=calls_in(trees),
        golden=sum(bool(node["golden"]) for node in nodes),
        successful=sum(bool(node["successful"]) for node in nodes),
        differences=tuple(differences),
    )


def calls_in(trees: tuple[Tree, ...]) -> int:
    """Count the executed calls of trees."""
    return sum(len(node.calls) for tree in trees for node in tree.nodes)
