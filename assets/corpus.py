"""Asset ``multiwoz_dialogues``."""

import dagster as dg

from assets.columns import described
from assets.partitions import OWNERS
from assets.resources import JoshResource
from assets.shown import ERROR, WARN, judged, sample, stored
from josh_pipeline.stages.corpus import store_corpus
from josh_pipeline.stages.verdicts import corpus_complete, corpus_unchanged

SAMPLE = (
    "SELECT dialogue_id, split, turns, array_to_string(domains, ', ') AS domains, "
    "log ->> '$[0].text' AS \"first message\" FROM current_dialogues WHERE scope = ? ORDER BY dialogue_id"
)


@dg.asset(
    group_name="corpus",
    kinds={"duckdb", "polars"},
    owners=OWNERS,
    check_specs=[
        dg.AssetCheckSpec(
            "corpus_complete",
            asset="multiwoz_dialogues",
            blocking=True,
            description="As many dialogues and entities are stored as were read, each dialogue once.",
        ),
        dg.AssetCheckSpec(
            "corpus_unchanged",
            asset="multiwoz_dialogues",
            blocking=False,
            description="The source has the digest that it had when it was last read. A warning: goals and "
            "scores of before are of the dialogues of before.",
        ),
    ],
    metadata=described("multiwoz_dialogues"),
    description="Dialogues and databases of a MultiWOZ release, or of the built-in sample corpus in the same "
    "format, as released: the source of every goal. Tables `corpora`, `dialogues`, `entities`.",
)
def multiwoz_dialogues(context: dg.AssetExecutionContext, josh: JoshResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Read the corpus of the settings into the store."""
    with josh.step(context) as step:
        summary = store_corpus(step)
        complete = corpus_complete(step)
        unchanged = corpus_unchanged(step, summary.generation)
        shown = sample(step, SAMPLE, [summary.generation.scope])
    return dg.MaterializeResult(
        data_version=dg.DataVersion(summary.digest),
        metadata={
            **stored("multiwoz_dialogues", summary.generation, sum(summary.dialogues.values())),
            "corpus": summary.name,
            "source": summary.source,
            "licence": summary.licence,
            "digest": summary.digest,
            "dialogues": summary.dialogues,
            "entities": summary.entities,
            **shown,
        },
        check_results=[
            judged("corpus_complete", complete, ERROR),
            judged("corpus_unchanged", unchanged, WARN),
        ],
    )
