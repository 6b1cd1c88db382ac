"""Asset ``beam_rollouts``."""

import dagster as dg

from assets.columns import described
from assets.links import tree_links
from assets.partitions import ITERATIONS, LOOP_POOL, OWNERS
from assets.policy import policy
from assets.resources import JoshResource
from assets.shown import WARN, judged, stored
from josh_pipeline.stages.rollouts import roll_out
from josh_pipeline.stages.verdicts import trees_rewarded


@dg.asset(
    group_name="iteration",
    partitions_def=ITERATIONS,
    pool=LOOP_POOL,
    kinds={"duckdb", "vllm"},
    owners=OWNERS,
    deps=[policy],
    check_specs=[
        dg.AssetCheckSpec(
            "trees_rewarded",
            asset="beam_rollouts",
            blocking=False,
            partitions_def=ITERATIONS,
            description="Some trees earned a reward, and few failed as a whole: else there is nothing to "
            "learn from.",
        )
    ],
    metadata=described("beam_rollouts"),
    description="The JOSH search: for each training goal a tree of conversations that branches at the "
    "agent's turns and collapses onto the branch that earns a reward. Holds every node, what was sampled, "
    "every call and its result, and the reward seen online. Finished trees are kept at once, so an "
    "interrupted run goes on. Tables `trees`, `nodes`, `rollouts`.",
)
def beam_rollouts(context: dg.AssetExecutionContext, josh: JoshResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Search the goals of this attempt that have no tree yet."""
    with josh.step(context) as step:
        summary = roll_out(step, context.partition_key)
        rewarded = trees_rewarded(step, context.partition_key)
        links = tree_links(step, context.partition_key)
    usage = summary.usage
    metadata = {
        **links,
        **stored("beam_rollouts", summary.generation, summary.trees),
        "number of trees": summary.trees,
        "trees made by earlier runs": summary.stored,
        "trees with full reward": summary.solved,
        "trees with any reward": summary.rewarded,
        "mean reward": round(summary.mean_reward, 3),
        "nodes": summary.nodes,
        "failed trees": summary.failed,
        "trees cut short by the budget": summary.cut,
        "simulated user": summary.simulated_user,
        "requests": usage.requests,
        "failed requests": usage.failed_requests,
        "prompt tokens": usage.prompt_tokens,
        "cached prompt tokens": usage.cached_tokens,
        "sampled tokens": usage.completion_tokens,
        "requests of the user's model": usage.user_requests,
        "failed requests of the user's model": usage.user_failed_requests,
        "tokens of the user's model": usage.user_prompt_tokens + usage.user_completion_tokens,
        "cost": round(usage.cost, 4),
    }
    if summary.run is not None:
        metadata |= {
            "seconds": round(summary.run.usage.seconds),
            "failed branches": {str(kind): n for kind, n in summary.run.failed_branches.items()},
        }
    return dg.MaterializeResult(
        data_version=dg.DataVersion(summary.content),
        metadata=metadata,
        check_results=[judged("trees_rewarded", rewarded, WARN)],
    )
