"""One training run: a base model, at most one adapter to go on from, rows in, an adapter out."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from josh_pipeline.dialogue.demonstrations import Demonstration
from josh_pipeline.policies.chat import ChatRenderer
from josh_pipeline.policies.models import model_digest
from josh_pipeline.policies.quantization import Quantization
from josh_pipeline.progress import Progress
from josh_pipeline.search.rows import DpoRow, KtoRow, Row, SftRow
from josh_pipeline.settings import ColdStartSettings, SftSettings, TrainingSettings
from josh_pipeline.training.examples import (
    TokenExample,
    demonstration_examples,
    dpo_examples,
    kto_examples,
    sft_examples,
)
from josh_pipeline.training.trainers import dpo_trainer, kto_trainer, run_trainer, sft_trainer


@dataclass(frozen=True)
class TrainingResult:
    """What a training run left.

    Attributes:
        adapter: folder of the adapter.
        digest: content hash of the adapter's weights and configuration.
        curve: what the trainer logged, an entry a step: step, epoch, loss, learning_rate, ...
        rows, tokens: rows trained on in an epoch, and their tokens (0 where TRL counts none).
        seconds: wall time, loading included.
        record: the resolved settings of the run.
    """

    adapter: Path
    digest: str
    curve: list[dict[str, float]]
    rows: int
    tokens: int
    seconds: float
    record: dict[str, Any]


def train_cold_start(
    demonstrations: Sequence[Demonstration],
    foundation: Path,
    out: Path,
    settings: ColdStartSettings,
    seed: int,
    progress: Progress,
) -> TrainingResult:
    """Teach the foundation the agent's format by SFT on scripted conversations.

    Args:
        foundation: model folder.
        out: where the adapter is written; replaced.

    Raises:
        UserError: a conversation is too long for ``training.max_tokens``.
    """
    sft = SftSettings(
        epochs=settings.epochs, learning_rate=settings.learning_rate, batch_size=settings.batch_size
    )
    renderer = ChatRenderer(foundation)
    examples = demonstration_examples(demonstrations, renderer, sft.max_tokens)
    return _sft(examples, foundation, None, out, sft, seed, progress, "cold start", "none")


def train(
    rows: Sequence[Row],
    base: Path,
    adapter: Path | None,
    out: Path,
    settings: TrainingSettings,
    seed: int,
    progress: Progress,
    quantization: Quantization,
) -> TrainingResult:
    """Train the next adapter.

    Args:
        rows: all of the kind that ``settings.method`` trains on.
        base: model folder of the base.
        adapter: the previous policy's adapter, None where that is the base itself.
        out: where the adapter is written; replaced.
        quantization: of the frozen weights while training.

    Raises:
        UserError: rows are too long, or too few.
    """
    renderer = ChatRenderer(base)
    start = adapter if settings.start == "previous" else None
    task = f"{settings.method.upper()} training"
    if settings.method == "sft":
        chosen = [row for row in rows if isinstance(row, SftRow)]
        examples = sft_examples(chosen, renderer, settings.max_tokens)
        return _sft(examples, base, start, out, settings, seed, progress, task, quantization)
    began = time.monotonic()
    reference = adapter if settings.reference == "previous" else None
    if settings.method == "kto":
        singles = [row for row in rows if isinstance(row, KtoRow)]
        data = kto_examples(singles, renderer, settings.max_tokens, settings.batch_size, seed)
        trainer = kto_trainer(data, renderer, base, start, reference, out, settings, seed, quantization)
    else:
        pairs = [row for row in rows if isinstance(row, DpoRow)]
        data = dpo_examples(pairs, renderer, settings.max_tokens, seed)
        trainer = dpo_trainer(data, renderer, base, start, reference, out, settings, seed, quantization)
    curve = run_trainer(trainer, out, progress, task)
    return _result(out, curve, len(data), 0, began, settings)


def _sft(
    examples: list[TokenExample],
    base: Path,
    start: Path | None,
    out: Path,
    settings: SftSettings,
    seed: int,
    progress: Progress,
    task: str,
    quantization: Quantization,
) -> TrainingResult:
    began = time.monotonic()
    trainer = sft_trainer(examples, base, start, out, settings, seed, quantization)
    curve = run_trainer(trainer, out, progress, task)
    tokens = sum(len(example.input_ids) for example in examples)
    return _result(out, curve, len(examples), tokens, began, settings)


def _result(
    out: Path, curve: list[dict[str, float]], rows: int, tokens: int, began: float, settings: TrainingSettings
) -> TrainingResult:
    record = json.loads(settings.model_dump_json())
    return TrainingResult(out, model_digest(out), curve, rows, tokens, time.monotonic() - began, record)
