"""The content hashes under which a home keeps corpora, goals and base models beside each other."""

from pathlib import Path

from josh_pipeline.core.ids import content_id
from josh_pipeline.settings import CorpusSettings, Settings


def corpus_scope(corpus: CorpusSettings) -> str:
    """Name a source: the sample by its size and seed, else the resolved path or the URL."""
    if corpus.source == "sample":
        return content_id("corpus", "sample", corpus.sample_dialogues, corpus.sample_seed)
    if corpus.source.startswith(("http://", "https://")):
        return content_id("corpus", corpus.source)
    return content_id("corpus", str(Path(corpus.source).expanduser().resolve()))


def goals_scope(settings: Settings) -> str:
    """Name the goals of a corpus under semantics, parts and domains."""
    return content_id("goals", corpus_scope(settings.corpus), settings.goals.model_dump(mode="json"))


def base_scope(settings: Settings) -> str:
    """Name a base model: the model, and what its cold start is made from.

    The seed is left out: a later run with another seed goes on from the base that is there.
    """
    model = [settings.policy.model, settings.policy.endpoint]
    if not settings.cold_start.conversations or settings.policy.endpoint is not None:
        return content_id("base", model)
    cold_start = settings.cold_start.model_dump(mode="json")
    return content_id("base", model, goals_scope(settings), cold_start, settings.policy.agent)
