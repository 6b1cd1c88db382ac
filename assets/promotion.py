"""Asset ``promotion``: closes the loop."""

import dagster as dg

from assets.columns import described
from assets.evaluation import benchmark_evaluation
from assets.partitions import ITERATIONS, LOOP_POOL, OWNERS
from assets.resources import JoshResource
from assets.shown import stored
from josh_pipeline.stages.policy import resolve_policy
from josh_pipeline.stages.promotion import promote


@dg.asset(
    group_name="iteration",
    partitions_def=ITERATIONS,
    pool=LOOP_POOL,
    kinds={"duckdb"},
    owners=OWNERS,
    deps=[benchmark_evaluation],
    metadata=described("promotion"),
    description="Whether the candidate becomes the next policy. If it does, this opens the next iteration "
    "and reports its `policy`; if it does not, that is written down, no partition is added, and running the "
    "iteration again makes a new attempt. Table `promotions`.",
)
def promotion(context: dg.AssetExecutionContext, josh: JoshResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Decide, and open the next iteration."""
    with josh.step(context) as step:
        summary = promote(step, context.partition_key)
        following = resolve_policy(step, summary.next_iteration) if summary.next_iteration else None
        # What schedule and sensor go on with: the settings of a whole round, not of a single asset's rerun.
        step.home.remember_settings(step.settings)
    if following is not None:
        context.instance.add_dynamic_partitions(str(ITERATIONS.name), [following.iteration])
        context.log_event(
            dg.AssetMaterialization(
                "policy",
                partition=following.iteration,
                description=f"Promoted by iteration {context.partition_key}.",
                tags={"dagster/data_version": following.policy_digest},
                metadata={"policy digest": following.policy_digest, "promoted by": context.partition_key},
            )
        )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(f"{summary.policy_digest}-{summary.promoted}"),
        metadata={
            **stored("promotion", summary.generation, 1),
            "promoted": summary.promoted,
            "reason": summary.reason,
            "attempt": summary.attempt,
            "policy digest": summary.policy_digest,
            "next iteration": summary.next_iteration or "none: not promoted",
        },
    )
