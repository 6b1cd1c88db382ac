"""Asset ``benchmark_evaluation`` and its check."""

import dagster as dg

from assets.adapter import lora_adapter
from assets.columns import described
from assets.partitions import ITERATIONS, LOOP_POOL, OWNERS
from assets.policy import policy
from assets.resources import JoshResource
from assets.shown import figure, stored, table
from josh_pipeline.report.figures import paired_differences, success_by_iteration
from josh_pipeline.report.lines import line_of_iteration
from josh_pipeline.report.load_scores import line_comparisons, line_scores
from josh_pipeline.stages.evaluation import GATE, EvaluationSummary, evaluate_candidate
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
        )
    ],
    metadata=described("benchmark_evaluation"),
    description="The policy before and the candidate after, greedy, on the same held-out goals with the same "
    "users: mean reward and success rate with 95 % intervals, and their paired differences. In `000` the "
    "base alone. Tables `episodes`, `evaluations`, `comparisons`.",
)
def benchmark_evaluation(context: dg.AssetExecutionContext, josh: JoshResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Play the held-out goals that have not been played."""
    with josh.step(context) as step:
        summary = evaluate_candidate(step, context.partition_key)
        figures = drawn(step, context.partition_key)
        version = content_version(step.warehouse, summary.generation)
    gate = summary.compared(GATE, "reward")
    return dg.MaterializeResult(
        data_version=dg.DataVersion(version),
        metadata={
            **stored("benchmark_evaluation", summary.generation, len(summary.scores)),
            **headline(summary),
            "scores": table(score_rows(summary)),
            "failed conversations": summary.failures,
            **figures,
        }
        | ({"paired differences": table(comparison_rows(summary))} if summary.comparisons else {}),
        check_results=[
            dg.AssetCheckResult(
                check_name="no_regression",
                passed=gate is None or gate.high >= 0,
                severity=dg.AssetCheckSeverity.WARN,
                description="A base is held against nothing."
                if gate is None
                else f"{gate.difference:+.3f} [{gate.low:+.3f}, {gate.high:+.3f}] reward on {gate.n} goals.",
                metadata={}
                if gate is None
                else {"difference": gate.difference, "low": gate.low, "high": gate.high, "goals": gate.n},
            )
        ],
    )


def drawn(step: Step, iteration: str) -> dict[str, dg.MarkdownMetadataValue]:
    """Draw the line of iterations up to this one, on test goals."""
    line = line_of_iteration(step.warehouse, iteration)
    scores = [one for one in line_scores(step.warehouse, line) if one.role == "test"]
    resamples = step.settings.evaluation.bootstrap
    compared = [one for one in line_comparisons(step.warehouse, line, resamples) if one.role == "test"]
    figures = {"success by iteration": figure(success_by_iteration(scores, None))}
    if compared:
        figures["differences"] = figure(paired_differences(compared))
    return figures


def headline(summary: EvaluationSummary) -> dict[str, float]:
    """The two figures of the benchmark, which the UI plots over iterations."""
    after = summary.scores["after", "test"]
    return {"mean reward (test)": round(after.reward, 3), "success rate (test)": round(after.success, 3)}


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
