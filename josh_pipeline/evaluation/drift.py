"""Drift: how far a policy has moved from the foundation outside of its task, without a judge.

Both models read the same texts (``general.yaml``: requests with one fixed answer each, in the model's own
chat format). At every token of an answer, the end of its turn included, the two distributions of the next
token are compared over the whole vocabulary:

    KL(policy ‖ foundation) = Σ_v policy(v) · log(policy(v) / foundation(v)),  in nats.

This direction asks what the policy does that the foundation would not. It is exact at each position;
nothing is sampled, so equal models give exactly 0, and equal weights give equal numbers. The contexts are
ours, not the policy's own answers: the figure compares policies with each other, it is not the divergence
of whole answers.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import yaml

from josh_pipeline.core.content import content_id
from josh_pipeline.core.messages import Message
from josh_pipeline.core.progress import Progress
from josh_pipeline.evaluation.statistics import bootstrap
from josh_pipeline.policies.chat import ChatRenderer
from josh_pipeline.policies.weights import Quantization, Weights, serves_beside

if TYPE_CHECKING:
    import torch

RESAMPLES = 10_000
BATCH = 10
"""Texts at once: at 128,000 tokens of vocabulary and 64 tokens a text the logits take 0.3 GB."""


@dataclass(frozen=True)
class GeneralText:
    """A request outside of the task, and one answer to it.

    Attributes:
        kind: chat, facts, arithmetic, code, instructions or languages.
    """

    kind: str
    prompt: str
    answer: str


@dataclass(frozen=True)
class Drift:
    """KL(policy ‖ foundation) in nats a token.

    Attributes:
        mean: over the texts, each the mean over the tokens of its answer.
        low, high: 95 % percentile bootstrap interval of it over the texts.
        texts, tokens: how many were read, and how many positions were compared.
        by_kind: the mean over the texts of each kind.
    """

    mean: float
    low: float
    high: float
    texts: int
    tokens: int
    by_kind: Mapping[str, float]


@cache
def general_texts() -> tuple[GeneralText, ...]:
    """Return the texts, in a fixed order."""
    text = (files("josh_pipeline.evaluation") / "general.yaml").read_text(encoding="utf-8")
    return tuple(GeneralText(**entry) for entry in yaml.safe_load(text))


def reading_digest(quantization: Quantization) -> str:
    """Name the texts and how weights are read here: drifts are comparable only where both are equal."""
    texts = [[text.kind, text.prompt, text.answer] for text in general_texts()]
    return content_id("drift", texts, *(["beside", quantization] if serves_beside(quantization) else []))


def measure_drift(policy: Weights, foundation: Path, progress: Progress, quantization: Quantization = "none") -> Drift:
    """Measure how far a policy, as it is served, has drifted from its foundation.

    One model is in memory at a time; the foundation's log-probabilities wait in main memory
    (positions × vocabulary × 4 bytes: 0.2 GB for SmolLM2, 0.5 GB for Llama-3).

    Args:
        policy: its vocabulary is the foundation's.
        foundation: folder of the model as published; its tokenizer and template write the texts.
        progress: counts texts, of both models.
        quantization: of the base, as it is served.
    """
    rows = list(_tokenised(foundation))
    task = "Drift from the foundation"
    progress.start(task, 2 * len(rows))
    try:
        original = Weights(foundation, None, foundation)
        before = list(_log_probabilities(original, rows, progress, task, quantization))
        after = _log_probabilities(policy, rows, progress, task, quantization)
        values = [float((new.exp() * (new - old)).sum(-1).mean()) for new, old in zip(after, before, strict=True)]
    finally:
        progress.finish(task)
    return summarised(values, [text.kind for text in general_texts()], sum(map(len, before)))


def summarised(values: Sequence[float], kinds: Sequence[str], tokens: int) -> Drift:
    """Sum up the texts' mean divergences."""
    interval = bootstrap(values, RESAMPLES)
    of_kind: dict[str, list[float]] = defaultdict(list)
    for kind, value in zip(kinds, values, strict=True):
        of_kind[kind].append(value)
    return Drift(
        mean=sum(values) / len(values),
        low=interval.low,
        high=interval.high,
        texts=len(values),
        tokens=tokens,
        by_kind={kind: sum(found) / len(found) for kind, found in of_kind.items()},
    )


class _Row(NamedTuple):
    """Token ids of a text, and the positions whose next token belongs to the answer."""

    ids: list[int]
    positions: list[int]


def _tokenised(foundation: Path) -> Iterator[_Row]:
    renderer = ChatRenderer(foundation)
    for text in general_texts():
        prompt, answer = renderer.answer((Message("user", text.prompt), Message("assistant", text.answer)), ())
        whole = prompt + answer
        yield _Row(whole, list(range(len(prompt) - 1, len(whole) - 1)))


def _log_probabilities(
    weights: Weights, rows: Sequence[_Row], progress: Progress, task: str, quantization: Quantization
) -> "Iterator[torch.Tensor]":
    """Give the log-probabilities of each row, positions × vocabulary, float32 on the CPU.

    Rows are padded on the right, where causal attention never looks; both models get the same batches.
    """
    # Imported where it is used: it takes seconds, and the stages import this module.
    import torch

    model = weights.load(quantization)
    for begin in range(0, len(rows), BATCH):
        batch = rows[begin : begin + BATCH]
        width = max(len(row.ids) for row in batch)
        ids = [row.ids + [0] * (width - len(row.ids)) for row in batch]
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor(ids, device=model.device)).logits
            found = [
                of_row[row.positions].float().log_softmax(-1).cpu() for row, of_row in zip(batch, logits, strict=True)
            ]
        for one in found:
            progress.advance(task)
            yield one
