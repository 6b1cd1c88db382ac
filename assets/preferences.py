"""Asset ``preference_pairs`` and its check."""

import dagster as dg

from assets.labels import reward_labels
from assets.partitions import ITERATIONS, LOOP_POOL, OWNERS
from assets.resources import JoshResource
from assets.shown import figure, stored, table
from josh_pipeline.report.load import harvest_of
from josh_pipeline.report.work_figures import harvest_yield
from josh_pipeline.stages.preferences import NO_ROWS_ADVICE, harvest_rows


@dg.asset(
    group_name="iteration",
    partitions_def=ITERATIONS,
    pool=LOOP_POOL,
    kinds={"duckdb"},
    owners=OWNERS,
    deps=[reward_labels],
    check_specs=[
        dg.AssetCheckSpec(
            "rows_sound",
            asset="preference_pairs",
            blocking=True,
            partitions_def=ITERATIONS,
            description="There are rows; each is once, has one label, answers a user or a tool, can be read "
            "by the agent, and comes from a training goal.",
        )
    ],
    description="What training learns from: golden conversations (SFT), single messages with their label "
    "(KTO), or pairs after the same prompt (DPO), each with the nodes that it came from. "
    "Tables `preference_rows`, `row_nodes`.",
)
def preference_pairs(context: dg.AssetExecutionContext, josh: JoshResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Harvest the labelled trees."""
    with josh.step(context) as step:
        summary = harvest_rows(step, context.partition_key)
        yields = harvest_of(step.warehouse, context.partition_key)
    blocking = [finding for finding in summary.findings if finding.blocking]
    advice = [] if summary.rows else [NO_ROWS_ADVICE]
    findings = [
        {"rule": finding.rule, "blocking": finding.blocking, "finding": finding.message}
        for finding in summary.findings
    ]
    return dg.MaterializeResult(
        metadata={
            **stored(summary.generation, sum(summary.rows.values()), "preference_rows"),
            "method": summary.method,
            "rows": dict(summary.rows),
            "trees that gave a row": summary.trees,
            "left out": dict(summary.refused),
            "harvest": figure(harvest_yield([yields])),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="rows_sound",
                passed=not blocking,
                description=" ".join([*(finding.message for finding in blocking), *advice]) or None,
                metadata={"rows": sum(summary.rows.values())}
                | ({"findings": table(findings)} if findings else {}),
            )
        ],
    )
