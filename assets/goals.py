"""Asset ``toolwoz_goals``."""

import dagster as dg

from assets.corpus import multiwoz_dialogues
from assets.partitions import OWNERS
from assets.resources import JoshResource
from assets.shown import stored, table
from josh_pipeline.stages.goals import ROLES, store_goals


@dg.asset(
    group_name="corpus",
    kinds={"duckdb"},
    owners=OWNERS,
    deps=[multiwoz_dialogues],
    description="What each dialogue's user wants, with the ground-truth tool calls that earn the reward, and "
    "the role of each goal: `train` is harvested, `val` gates promotion, `test` is what figures show. "
    "Tables `goals`, `solvability`.",
)
def toolwoz_goals(context: dg.AssetExecutionContext, josh: JoshResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Derive whole goals and parts, and play the oracle on each."""
    with josh.step(context) as step:
        summary = store_goals(step)
    kinds = sorted({kind for kind, _ in summary.usable})
    counts = [
        {"kind": kind, **{role: summary.usable.get((kind, role), 0) for role in ROLES},
         "solved by an oracle": summary.solvable.get(kind, 0)}
        for kind in kinds
    ]  # fmt: skip
    return dg.MaterializeResult(
        metadata={
            **stored(summary.generation, sum(summary.usable.values()), "goals"),
            "corpus": summary.corpus,
            "roles": summary.roles,
            "usable goals": table(counts),
            "excluded whole goals": summary.excluded,
        },
    )
