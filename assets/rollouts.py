"""Asset ``beam_rollouts``."""

import dagster as dg

from assets.partitions import ITERATIONS, LOOP_POOL, OWNERS
from assets.policy import policy
from assets.resources import JoshResource
from assets.shown import stored, table
from josh_pipeline.stages.rollouts import roll_out

SHOWN_TREES = (
    "SELECT t.rollout_id AS tree, t.goal_id AS goal, t.reward, count(*) AS nodes, t.rounds "
    "FROM current_trees t JOIN current_nodes n USING (iteration, rollout_id) WHERE t.iteration = ? "
    "GROUP BY ALL ORDER BY t.reward DESC, nodes DESC LIMIT 8"
)


@dg.asset(
    group_name="iteration",
    partitions_def=ITERATIONS,
    pool=LOOP_POOL,
    kinds={"duckdb", "vllm"},
    owners=OWNERS,
    deps=[policy],
    description="The JOSH search: for each training goal a tree of conversations that branches at the "
    "agent's turns and collapses onto the branch that earns a reward. Holds every node, what was sampled, "
    "every call and its result, and the reward seen online. Finished trees are kept at once, so an "
    "interrupted run goes on. Tables `trees`, `nodes`, `rollouts`.",
)
def beam_rollouts(context: dg.AssetExecutionContext, josh: JoshResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Search the goals of this attempt that have no tree yet."""
    with josh.step(context) as step:
        summary = roll_out(step, context.partition_key)
        shown = step.warehouse.rows(SHOWN_TREES, [context.partition_key])
    usage = summary.usage
    metadata = {
        **stored(summary.generation, summary.trees, "trees"),
        "trees": summary.trees,
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
        "trees to look at (josh tree ID)": table(shown),
    }
    if summary.run is not None:
        metadata |= {
            "seconds": round(summary.run.usage.seconds),
            "failed branches": {str(kind): n for kind, n in summary.run.failed_branches.items()},
        }
    return dg.MaterializeResult(data_version=dg.DataVersion(summary.content), metadata=metadata)
