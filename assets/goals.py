"""Asset ``toolwoz_goals``."""

import dagster as dg

from assets.columns import described
from assets.corpus import multiwoz_dialogues
from assets.partitions import OWNERS
from assets.resources import JoshResource
from assets.shown import WARN, judged, sample, stored, table
from josh_pipeline.stages.goals import ROLES, store_goals
from josh_pipeline.stages.verdicts import ceiling_high, goals_solvable
from josh_pipeline.store.content import content_version

SAMPLE = (
    "SELECT goal_id AS goal, dialogue_id AS dialogue, kind, role, message, calls FROM current_goals "
    "WHERE scope = ? AND excluded IS NULL ORDER BY kind, position"
)


@dg.asset(
    group_name="corpus",
    kinds={"duckdb"},
    owners=OWNERS,
    deps=[multiwoz_dialogues],
    check_specs=[
        dg.AssetCheckSpec(
            "goals_solvable",
            asset="toolwoz_goals",
            blocking=False,
            description="Making the ground-truth calls earns the full reward on nearly all goals.",
        ),
        dg.AssetCheckSpec(
            "user_ceiling",
            asset="toolwoz_goals",
            blocking=False,
            description="A careful script that understands the simulated user perfectly solves most of the "
            "test goals: what the user lets anybody reach bounds every score.",
        ),
    ],
    metadata=described("toolwoz_goals"),
    description="What each dialogue's user wants, with the ground-truth tool calls that earn the reward, and "
    "the role of each goal: `train` is harvested, `val` gates promotion, `test` is what figures show. "
    "Tables `goals`, `solvability`.",
)
def toolwoz_goals(context: dg.AssetExecutionContext, josh: JoshResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Derive whole goals and parts, and play the oracle on each."""
    with josh.step(context) as step:
        summary = store_goals(step)
        solvable, ceiling = goals_solvable(step), ceiling_high(step)
        version = content_version(step.warehouse, summary.generation)
        shown = sample(step, SAMPLE, [summary.generation.scope])
    kinds = sorted({kind for kind, _ in summary.usable})
    counts = [
        {"kind": kind, **{role: summary.usable.get((kind, role), 0) for role in ROLES},
         "solved by an oracle": summary.solvable.get(kind, 0)}
        for kind in kinds
    ]  # fmt: skip
    return dg.MaterializeResult(
        data_version=dg.DataVersion(version),
        metadata={
            **stored("toolwoz_goals", summary.generation, sum(summary.usable.values())),
            "corpus": summary.corpus,
            "roles": summary.roles,
            "usable goals": table(counts),
            "excluded whole goals": summary.excluded,
            **shown,
        },
        check_results=[
            judged("goals_solvable", solvable, WARN),
            judged("user_ceiling", ceiling, WARN),
        ],
    )
