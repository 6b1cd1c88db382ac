"""Asset ``preference_pairs`` and its check."""

import dagster as dg

from assets.columns import described
from assets.labels import reward_labels
from assets.links import row_links
from assets.partitions import ITERATIONS, LOOP_POOL, OWNERS
from assets.resources import JoshResource
from assets.shown import ERROR, WARN, figure, judged, stored, table
from josh_pipeline.report.load import harvest_of
from josh_pipeline.report.work_figures import harvest_yield
from josh_pipeline.stages.preferences import NO_ROWS_ADVICE, harvest_rows
from josh_pipeline.stages.verdicts import calls_unseen, labels_balanced, nothing_leaks
from josh_pipeline.store.content import content_version


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
            "by the agent.",
        ),
        dg.AssetCheckSpec(
            "nothing_leaks",
            asset="preference_pairs",
            blocking=True,
            partitions_def=ITERATIONS,
            description="No row comes from a goal, or from the dialogue of a goal, that is held out for "
            "validation or test.",
        ),
        dg.AssetCheckSpec(
            "calls_unseen",
            asset="preference_pairs",
            blocking=False,
            partitions_def=ITERATIONS,
            description="No row comes from a goal that wants exactly the calls of an evaluated goal. A "
            "warning with a count: dialogues differ, but such a goal could be solved by heart.",
        ),
        dg.AssetCheckSpec(
            "labels_balanced",
            asset="preference_pairs",
            blocking=False,
            partitions_def=ITERATIONS,
            description="Of single labelled messages neither side is more than 20 times the other.",
        ),
    ],
    metadata=described("preference_pairs"),
    description="What training learns from: golden conversations (SFT), single messages with their label "
    "(KTO), or pairs after the same prompt (DPO), each with the nodes that it came from. "
    "Tables `preference_rows`, `row_nodes`.",
)
def preference_pairs(context: dg.AssetExecutionContext, josh: JoshResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Harvest the labelled trees."""
    with josh.step(context) as step:
        summary = harvest_rows(step, context.partition_key)
        yields = harvest_of(step.warehouse, context.partition_key)
        leaks = nothing_leaks(step, context.partition_key)
        unseen = calls_unseen(step, context.partition_key)
        balance = labels_balanced(step, context.partition_key)
        version = content_version(step.warehouse, summary.generation)
        links = row_links(step, context.partition_key)
    blocking = [finding for finding in summary.findings if finding.blocking]
    advice = [] if summary.rows else [NO_ROWS_ADVICE]
    findings = [
        {"rule": finding.rule, "blocking": finding.blocking, "finding": finding.message}
        for finding in summary.findings
    ]
    return dg.MaterializeResult(
        data_version=dg.DataVersion(version),
        metadata={
            **stored("preference_pairs", summary.generation, sum(summary.rows.values())),
            "method": summary.method,
            "rows": dict(summary.rows),
            "trees that gave a row": summary.trees,
            "left out": dict(summary.refused),
            "harvest": figure(harvest_yield([yields])),
            **links,
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="rows_sound",
                passed=not blocking,
                description=" ".join([*(finding.message for finding in blocking), *advice]) or None,
                metadata={"rows": sum(summary.rows.values())}
                | ({"findings": table(findings)} if findings else {}),
            ),
            judged("nothing_leaks", leaks, ERROR),
            judged("calls_unseen", unseen, WARN),
            judged("labels_balanced", balance, WARN),
        ],
    )
