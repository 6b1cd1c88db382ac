"""Asset ``reward_labels`` and its check."""

import dagster as dg

from assets.partitions import ITERATIONS, LOOP_POOL, OWNERS
from assets.resources import JoshResource
from assets.rollouts import beam_rollouts
from assets.shown import stored
from josh_pipeline.stages.labels import label_rewards

SHOWN_DIFFERENCES = 20


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
    description="Every label of the trees (what a call earned, golden, successful, the tree's reward) "
    "computed anew from the stored calls, independently of the search. Tables `labels`, `tree_labels`.",
)
def reward_labels(context: dg.AssetExecutionContext, josh: JoshResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Replay the calls and hold what they earn against what was noted."""
    with josh.step(context) as step:
        summary = label_rewards(step, context.partition_key)
    differences = list(summary.differences[:SHOWN_DIFFERENCES])
    return dg.MaterializeResult(
        metadata={
            **stored(summary.generation, summary.nodes, "labels"),
            "trees": summary.trees,
            "nodes": summary.nodes,
            "calls replayed": summary.calls,
            "golden nodes": summary.golden,
            "successful nodes": summary.successful,
            "differences": len(summary.differences),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="labels_agree",
                passed=not differences,
                metadata={
                    "calls replayed": summary.calls,
                    "differences": len(summary.differences),
                    "first differences": differences,
                },
            )
        ],
    )
