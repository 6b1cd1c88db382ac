"""Columns of the tables behind each asset, and the columns that they were made from."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from josh_pipeline.store.columns import columns

TABLES: Mapping[str, tuple[str, ...]] = {
    "multiwoz_dialogues": ("dialogues", "corpora", "entities"),
    "toolwoz_goals": ("goals", "solvability"),
    "cold_start": ("demonstrations", "base_models", "cold_start_curves"),
    "policy": ("policies",),
    "beam_rollouts": ("trees", "nodes", "rollouts"),
    "reward_labels": ("labels", "tree_labels"),
    "preference_pairs": ("preference_rows", "row_nodes"),
    "lora_adapter": ("trainings", "training_curves"),
    "benchmark_evaluation": ("evaluations", "comparisons", "drifts", "evaluation_episodes", "episodes"),
    "promotion": ("promotions",),
    "toolwoz_benchmark": ("benchmarks", "benchmark_episodes"),
}
"""Tables of each asset; rows are counted in the first."""

LINEAGE: Mapping[str, Sequence[str]] = {
    "goals.corpus_digest": ["corpora.corpus_digest"],
    "goals.dialogue_id": ["dialogues.dialogue_id"],
    "goals.split": ["dialogues.split"],
    "goals.role": ["dialogues.split", "dialogues.dialogue_id"],
    "goals.message": ["dialogues.goal"],
    "goals.tasks": ["dialogues.goal"],
    "goals.calls": ["dialogues.goal", "dialogues.log"],
    "solvability.reward": ["entities.entity"],
    "demonstrations.goal_id": ["goals.goal_id"],
    "demonstrations.dialogue_id": ["goals.dialogue_id"],
    "demonstrations.messages": ["goals.tasks", "goals.calls"],
    "policies.corpus_digest": ["goals.corpus_digest"],
    "policies.base_digest": ["base_models.base_digest"],
    "policies.base_path": ["base_models.base_path"],
    "policies.model": ["base_models.model"],
    "trees.policy_digest": ["policies.policy_digest"],
    "trees.goal_id": ["goals.goal_id"],
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
    "preference_rows.goal_id": ["trees.goal_id"],
    "preference_rows.rollout_id": ["trees.rollout_id"],
    "preference_rows.policy_digest": ["trees.policy_digest"],
    "preference_rows.tools": ["trees.tools"],
    "preference_rows.prompt": ["trees.system", "nodes.messages"],
    "preference_rows.completion": ["nodes.messages"],
    "preference_rows.rejected": ["nodes.messages"],
    "preference_rows.desirable": ["nodes.golden", "nodes.successful"],
    "row_nodes.node_id": ["nodes.node_id"],
    "trainings.base_digest": ["policies.base_digest"],
    "trainings.parent_digest": ["policies.adapter_digest"],
    "trainings.rows_digest": ["preference_rows.row_id"],
    "trainings.adapter_digest": [
        "preference_rows.prompt",
        "preference_rows.completion",
        "preference_rows.rejected",
        "preference_rows.desirable",
        "policies.base_digest",
    ],
    "episodes.goal_id": ["goals.goal_id"],
    "episodes.policy_digest": ["policies.policy_digest", "trainings.policy_digest"],
    "evaluations.policy_digest": ["policies.policy_digest", "trainings.policy_digest"],
    "drifts.policy_digest": ["policies.policy_digest", "trainings.policy_digest"],
    "drifts.foundation_digest": ["base_models.foundation_digest"],
    "promotions.line": ["policies.line"],
    "promotions.policy_digest": ["trainings.policy_digest"],
    "promotions.previous_digest": ["policies.policy_digest"],
    "promotions.promoted": ["comparisons.high", "drifts.drift", "drifts.max_drift"],
    "benchmarks.policy_digest": ["promotions.policy_digest", "policies.policy_digest"],
}
"""What a column was made from, where that is a column of another asset."""


def described(asset: str) -> dict[str, Any]:
    """Return the metadata of an asset's definition: its tables, their columns and where those come from."""
    return {
        "dagster/table_name": table_name(asset),
        "dagster/column_schema": schema(TABLES[asset]),
        **lineage(asset),
    }


def table_name(asset: str) -> str:
    """Return where an asset's first table lies."""
    return f"josh.duckdb: {TABLES[asset][0]}"


def schema(tables: Sequence[str]) -> dg.TableSchema:
    """Return the columns of some tables, each as ``table.column``."""
    return dg.TableSchema(
        [
            dg.TableColumn(
                f"{table}.{column.name}",
                column.type,
                description=column.about or None,
                constraints=dg.TableColumnConstraints(nullable=not column.required),
            )
            for table in tables
            for column in columns()[table]
        ]
    )


def lineage(asset: str) -> dict[str, dg.TableColumnLineage]:
    """Return the column lineage of an asset as metadata; none where it reads no other asset's columns."""
    owner = {table: name for name, tables in TABLES.items() for table in tables}
    deps = {
        column: [
            dg.TableColumnDep(asset_key=dg.AssetKey(owner[source.split(".")[0]]), column_name=source)
            for source in sources
        ]
        for column, sources in LINEAGE.items()
        if owner[column.split(".")[0]] == asset
    }
    return {"dagster/column_lineage": dg.TableColumnLineage(deps)} if deps else {}
