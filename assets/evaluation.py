"""Asset ``benchmark_evaluation`` and its checks."""

from dataclasses import asdict

import dagster as dg

from assets.adapter import lora_adapter
from assets.columns import described
from assets.partitions import ITERATIONS, LOOP_POOL, OWNERS
from assets.policy import policy
from assets.resources import JoshResource
from assets.shown import figure, stored, table
from josh_pipeline.evaluation.gate import drift_sentence
from josh_pipeline.report.figures import drift_by_policy, paired_differences, success_by_iteration
from josh_pipeline.report.lines import line_of_iteration
from josh_pipeline.report.load import played_ceiling
from josh_pipeline.report.load_scores import line_comparisons, line_drifts, line_scores
from josh_pipeline.stages.evaluation import EvaluationSummary, evaluate_candidate
from josh_pipeline.stages.step import Step
from josh_pipeline.store.content import content_version


@dg.asset(
    group_name="iteration",
    partitions_def=ITERATIONS,
    pool=LOOP_POOL,
    kinds={"duckdb", "vllm"},
    owners=OWNERS,
    deps=[policy, lora_adapter],
    check_specs=[
        dg.AssetCheckSpec(
            "no_regression",
            asset="benchmark_evaluation",
            # Not blocking: promotion has to run to write a refusal down, for it is a result, not an error.
            blocking=False,
            partitions_def=ITERATIONS,
            description="The paired bootstrap on the validation goals does not show that the candidate earns "
            "less than the policy before. A candidate that fails is not promoted.",
        ),
        dg.AssetCheckSpec(
            "drift",
            asset="benchmark_evaluation",
            blocking=False,
            partitions_def=ITERATIONS,
            description="What the policy changed outside of its task, KL(policy ‖ foundation) on general "
            "texts, is within evaluation.max_drift. A candidate that fails is not promoted; of a base "
            "it is only said.",
        ),
    ],
    metadata=described("benchmark_evaluation"),
    description="The policy before and the candidate after, greedy, on the same held-out goals with the same "
    "users: mean reward and success rate with 95 % intervals, and their paired differences; and how far the "
    "candidate has drifted from the foundation. In `000` the base alone. Tables `episodes`, `evaluations`, "
    "`comparisons`, `drifts`.",
)
def benchmark_evaluation(context: dg.AssetExecutionContext, josh: JoshResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Play the held-out goals that have not been played."""
    with josh.step(context) as step:
        summary = evaluate_candidate(step, context.partition_key)
        figures = drawn(step, context.partition_key)
        version = content_version(step.warehouse, summary.generation)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(version),
        metadata={
            **stored("benchmark_evaluation", summary.generation, len(summary.scores)),
            **headline(summary),
            "scores": table(score_rows(summary)),
            **breakdowns(summary),
            "failed conversations": summary.failures,
            **figures,
        }
        | ({"paired differences": table(comparison_rows(summary))} if summary.comparisons else {}),
        check_results=[regression_check(summary), drift_check(summary)],
    )


def regression_check(summary: EvaluationSummary) -> dg.AssetCheckResult:
    """Say whether the candidate got worse."""
    gate = summary.gate
    return dg.AssetCheckResult(
        check_name="no_regression",
        passed=gate is None or not gate.regressed,
        severity=dg.AssetCheckSeverity.WARN,
        description=gate.regression_sentence if gate else "A base is held against nothing.",
        metadata={"difference": gate.difference, "low": gate.low, "high": gate.high, "goals": gate.n}
        if gate
        else {},
    )


def drift_check(summary: EvaluationSummary) -> dg.AssetCheckResult:
    """Say whether the policy has drifted too far from the foundation."""
    found = summary.drift
    return dg.AssetCheckResult(
        check_name="drift",
        passed=found is None or found.mean <= summary.max_drift,
        severity=dg.AssetCheckSeverity.WARN,
        description=drift_sentence(found.mean, summary.max_drift) if found else summary.no_drift,
        metadata={
            "drift": found.mean,
            "low": found.low,
            "high": found.high,
            "limit": summary.max_drift,
            "texts": found.texts,
            "by kind": dict(found.by_kind),
        }
        if found
        else {},
    )


def drawn(step: Step, iteration: str) -> dict[str, dg.MarkdownMetadataValue]:
    """Draw the line of iterations up to this one, on test goals."""
    line = line_of_iteration(step.warehouse, iteration)
    # Parts and whole goals are never in one figure, nor what another attempt has replaced.
    kind = "parts" if step.settings.goals.parts else "whole"
    scores = [
        one
        for one in line_scores(step.warehouse, line)
        if (one.role, one.goals) == ("test", kind) and not one.superseded
    ]
    ceiling = played_ceiling(step.warehouse, line.rows[-1], step.settings)
    resamples = step.settings.evaluation.bootstrap
    compared = [one for one in line_comparisons(step.warehouse, line, resamples) if one.role == "test"]
    figures = {"success by iteration": figure(success_by_iteration(scores, ceiling))}
    if compared:
        figures["differences"] = figure(paired_differences(compared))
    drifts = line_drifts(step.warehouse, line)
    if any(one.drift for one in drifts):
        figures["drift"] = figure(drift_by_policy(drifts))
    return figures


def headline(summary: EvaluationSummary) -> dict[str, float]:
    """The figures of the benchmark that the UI plots over iterations."""
    after = summary.scores["after", "test"]
    found = {"mean reward (test)": round(after.reward, 3), "success rate (test)": round(after.success, 3)}
    return found | ({"drift": round(summary.drift.mean, 3)} if summary.drift else {})


def breakdowns(summary: EvaluationSummary) -> dict[str, object]:
    """Where the evaluated policy succeeds and fails on test goals, and what asking it took."""
    after = summary.scores["after", "test"]
    parts = [asdict(one) for one in (*after.by_domain, *after.by_act, *after.by_tool)]
    wrong = [{"what": name, "conversations": n} for name, n in after.errors.items()]
    faults = [{"what": name, "replies": n} for name, n in after.faults.items()]
    return {
        "by domain, act and tool": table(parts),
        **({"what went wrong first": table(wrong)} if wrong else {}),
        **({"faulty replies": table(faults)} if faults else {}),
        "agent turns a conversation": round(after.turns, 2),
        "requests": after.usage.requests,
        "prompt tokens": after.usage.prompt_tokens,
        "cached prompt tokens": after.usage.cached_tokens,
        "sampled tokens": after.usage.completion_tokens,
        "tokens of the user's model": after.usage.user_prompt_tokens + after.usage.user_completion_tokens,
        "cost": round(after.usage.cost, 4),
    }


def score_rows(summary: EvaluationSummary) -> list[dict[str, object]]:
    """A line for each side and role."""
    return [
        {
            "side": side,
            "role": role,
            "goals": f"{summary.kind}s" if summary.kind == "part" else summary.kind,
            "n": one.n,
            "mean reward": one.reward,
            "success": one.success,
            "low": one.low,
            "high": one.high,
        }
        for (side, role), one in summary.scores.items()
    ]


def comparison_rows(summary: EvaluationSummary) -> list[dict[str, object]]:
    """A line for each role and figure."""
    return [
        {
            "role": one.role,
            "figure": one.metric,
            "n": one.n,
            "before": one.before,
            "after": one.after,
            "difference": one.difference,
            "low": one.low,
            "high": one.high,
        }
        for one in summary.comparisons
    ]
