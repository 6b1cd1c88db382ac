"""Asset ``reward_labels`` and its check."""

import dagster as dg

from assets.columns import described
from assets.partitions import ITERATIONS, LOOP_POOL, OWNERS
from assets.resources import JoshResource
from assets.rollouts import beam_rollouts
from assets.shown import sample, stored
from josh_pipeline.stages.labels import label_rewards
from josh_pipeline.store.content import content_version

SHOWN_DIFFERENCES = 20
SAMPLE = (
    "SELECT rollout_id AS tree, node_id AS node, golden, successful, earned, call_earned AS "
    '"earned by call", agrees FROM current_labels WHERE iteration = ? AND successful ORDER BY ALL'
)


@dg.asset(
    group_name="iteration",
    partitions_def=ITERATIONS,
    pool=LOOP_POOL,
    kinds={"duckdb"},
    owners=OWNERS,
    deps=[beam_rollouts],
    check_specs=[
        dg.AssetCheckSpec(
            "labels_agree",
            asset="reward_labels",
            blocking=True,
            partitions_def=ITERATIONS,
            description="Every label computed from the stored calls is the one that the search noted online.",
        )
    ],
    metadata=described("reward_labels"),
    description="Every label of the trees (what a call earned, golden, successful, the tree's reward) "
    "computed anew from the stored calls, independently of the search. Tables `labels`, `tree_labels`.",
)
def reward_labels(context: dg.AssetExecutionContext, josh: JoshResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Replay the calls and hold what they earn against what was noted."""
    with josh.step(context) as step:
        summary = label_rewards(step, context.partition_key)
        version = content_version(step.warehouse, summary.generation)
        shown = sample(step, SAMPLE, [context.partition_key])
    differences = list(summary.differences[:SHOWN_DIFFERENCES])
    return dg.MaterializeResult(
        data_version=dg.DataVersion(version),
        metadata={
            **stored("reward_labels", summary.generation, summary.nodes),
            "trees": summary.trees,
            "nodes": summary.nodes,
            "calls replayed": summary.calls,
            "golden nodes": summary.golden,
            "successful nodes": summary.successful,
            "differences": len(summary.differences),
            **shown,
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="labels_agree",
                passed=not differences,
                description=f"{len(summary.differences)} labels differ from what the search noted."
                if differences
                else f"All labels of {summary.nodes} nodes agree, from {summary.calls} calls replayed.",
                metadata={
                    "calls replayed": summary.calls,
                    "differences": len(summary.differences),
                    "first differences": differences,
                },
            )
        ],
    )
