"""Asset ``policy``."""

import dagster as dg

from assets.cold_start import cold_start
from assets.columns import described
from assets.goals import toolwoz_goals
from assets.partitions import ITERATIONS, LOOP_POOL, OWNERS
from assets.resources import JoshResource
from assets.shown import stored
from josh_pipeline.stages.policy import resolve_policy


@dg.asset(
    group_name="iteration",
    partitions_def=ITERATIONS,
    pool=LOOP_POOL,
    kinds={"duckdb"},
    owners=OWNERS,
    deps=[toolwoz_goals, cold_start],
    metadata=described("policy"),
    description="What the iteration plays with: the policy that the preceding iteration promoted, or the "
    "base in `000`. The loop closes here: `promotion` of the preceding iteration reports this asset. "
    "Table `policies`.",
)
def policy(context: dg.AssetExecutionContext, josh: JoshResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Resolve the iteration's policy and attempt."""
    with josh.step(context) as step:
        row = resolve_policy(step, context.partition_key)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(row.policy_digest),
        metadata={
            **stored("policy", row.source, 1),
            "policy digest": row.policy_digest,
            "kind": row.kind,
            "attempt": row.attempt,
            "promoted by": row.predecessor or "nothing: this is the base",
            "base digest": row.base_digest,
            "adapter digest": row.adapter_digest or "none",
            "corpus": row.corpus,
            "model": row.model,
        },
    )
