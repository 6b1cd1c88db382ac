"""Asset ``multiwoz_dialogues``."""

import dagster as dg

from assets.partitions import OWNERS
from assets.resources import JoshResource
from assets.shown import stored
from josh_pipeline.stages.corpus import store_corpus


@dg.asset(
    group_name="corpus",
    kinds={"duckdb", "polars"},
    owners=OWNERS,
    description="Dialogues and databases of a MultiWOZ release, or of the built-in sample corpus in the same "
    "format, as released: the source of every goal. Tables `corpora`, `dialogues`, `entities`.",
)
def multiwoz_dialogues(context: dg.AssetExecutionContext, josh: JoshResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Read the corpus of the settings into the store."""
    with josh.step(context) as step:
        summary = store_corpus(step)
    return dg.MaterializeResult(
        data_version=dg.DataVersion(summary.digest),
        metadata={
            **stored(summary.generation, sum(summary.dialogues.values()), "dialogues"),
            "corpus": summary.name,
            "source": summary.source,
            "licence": summary.licence,
            "digest": summary.digest,
            "dialogues": summary.dialogues,
            "entities": summary.entities,
        },
    )
