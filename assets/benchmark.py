"""Asset ``toolwoz_benchmark``."""

from dataclasses import asdict

import dagster as dg

from assets.columns import described
from assets.partitions import ITERATIONS, LOOP_POOL, OWNERS
from assets.promotion import promotion
from assets.resources import JoshResource
from assets.shown import stored, table
from josh_pipeline.stages.benchmark import benchmark_whole
from josh_pipeline.store.content import content_version


@dg.asset(
    group_name="iteration",
    partitions_def=ITERATIONS,
    pool=LOOP_POOL,
    kinds={"duckdb", "vllm"},
    owners=OWNERS,
    deps=[promotion],
    metadata=described("toolwoz_benchmark"),
    description="The policy that stands after an iteration on whole test goals: a ToolWOZ score, also where "
    "the loop plays parts. Not part of an iteration; `josh iterate` ends with it where "
    "evaluation.whole_goals asks for it. Table `benchmarks`.",
)
def toolwoz_benchmark(context: dg.AssetExecutionContext, josh: JoshResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Play whole goals greedily."""
    with josh.step(context) as step:
        found = benchmark_whole(step, context.partition_key)
        version = content_version(step.warehouse, found.generation)
    one = found.score
    return dg.MaterializeResult(
        data_version=dg.DataVersion(version),
        metadata={
            **stored("toolwoz_benchmark", found.generation, 1),
            "policy digest": one.policy,
            "goals": one.n,
            "mean reward (whole goals)": round(one.reward, 3),
            "success rate (whole goals)": round(one.success, 3),
            "95 % interval": f"{one.low:.3f} to {one.high:.3f}",
            "errors": dict(one.errors),
        }
        | ({"by domain": table([asdict(part) for part in one.by_domain])} if one.by_domain else {}),
    )
