"""A training in this process: trainer, checkpoints, divergence, and the adapter that comes out."""

import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.progress import Progress
from josh_pipeline.policies.chat import ChatRenderer
from josh_pipeline.policies.models import model_digest
from josh_pipeline.training.job import TrainingJob, TrainingResult
from josh_pipeline.training.tracking import TrackedRun, Tracker, told_by_environment, tracker_of
from josh_pipeline.training.trainers import batched_rows, packed_trainer, plain_trainer, write_adapter


def fit(job: TrainingJob, work: Path, progress: Progress) -> TrainingResult:
    """Train in this process, or this process's share where several train.

    Args:
        work: folder of this training alone.
    """
    began = time.monotonic()
    renderer = ChatRenderer(job.base)
    rows = batched_rows(job, renderer)
    checkpoints = work / "checkpoints"
    steps_began = time.monotonic()
    try:
        trainer: Trainer
        if job.settings.packed:
            trainer = packed_trainer(job, rows, checkpoints)
        else:
            trainer = plain_trainer(job, rows, renderer, checkpoints)
        # Without bars transformers prints every log entry; ours goes to the progress.
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(_Report(progress, job.task))
        checkpoint = last_checkpoint(checkpoints)
        with _tracking(job.tracked) as described:
            if described:
                trainer.add_callback(described)
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except torch.OutOfMemoryError:
        raise UserError(
            "The GPU's memory does not hold this training: lower training.batch_size, "
            "or set training.gradient_checkpointing to true."
        ) from None
    curve = [entry for entry in trainer.state.log_history if "loss" in entry]
    _refuse_divergence(curve)
    adapter = work / "adapter"
    if trainer.is_world_process_zero():
        write_adapter(trainer.model, job.base, adapter)
    trainer.accelerator.wait_for_everyone()
    resumed = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    done = 1 - resumed / trainer.state.max_steps
    return TrainingResult(
        adapter=adapter,
        digest=model_digest(adapter),
        # A batch without a desirable row has no reward of one: the mean over none is no number.
        curve=[{key: float(value) for key, value in entry.items() if math.isfinite(value)} for entry in curve],
        rows=rows.rows,
        tokens=rows.plain_tokens,
        repeated=rows.repeated,
        seconds=time.monotonic() - began,
        rows_per_second=rows.rows * job.settings.epochs * done / (time.monotonic() - steps_began),
        record=job.settings.model_dump(mode="json"),
        link=described.link if described else None,
    )


def _refuse_divergence(curve: Sequence[dict[str, Any]]) -> None:
    for entry in curve:
        if not (math.isfinite(entry["loss"]) and math.isfinite(entry.get("grad_norm", 0.0))):
            raise UserError(
                f"The training diverged: at step {entry.get('step')} the loss or its gradient is no number. "
                "Lower training.learning_rate and materialize lora_adapter again."
            )


def last_checkpoint(folder: Path) -> Path | None:
    """Return the last whole checkpoint; the trainer's state is written last, and may be half written."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json") if _is_json(path)]
    return max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True


@contextmanager
def _tracking(run: TrackedRun | None) -> "Iterator[_Described | None]":
    """Let transformers' callback find a tracker's run, and yield what describes the run once that has opened it."""
    if run is None:
        yield None
        return
    tracker = tracker_of(run)
    with told_by_environment(tracker.environment()), redirect_stdout(sys.stderr):
        try:
            yield _Described(tracker)
        finally:
            # The callback of W&B leaves the run open, and then the evaluation could not join it.
            tracker.close()


class _Described(TrainerCallback):
    """Says in a tracker's run what it is of, and keeps its link."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self.link: str | None = None

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        # The tracker's own callback was added first, and has opened the run.
        if state.is_world_process_zero:
            self._tracker.describe()
            self.link = self._tracker.link()


class _Report(TrainerCallback):
    """Passes steps on to a ``Progress``."""

    def __init__(self, progress: Progress, task: str) -> None:
        self._progress = progress
        self._task = task

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._progress.start(self._task, state.max_steps)
        if state.global_step:
            self._progress.advance(self._task, state.global_step)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._progress.advance(self._task)

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._progress.finish(self._task)
