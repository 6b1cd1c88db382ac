"""One training: rows in, an adapter out, in the pipeline's own process or in processes of its own."""

from collections.abc import Sequence
from pathlib import Path

from josh_pipeline.core.locks import alone
from josh_pipeline.core.messages import Conversation
from josh_pipeline.core.progress import Progress
from josh_pipeline.dialogue.demonstrations import Demonstration
from josh_pipeline.harvest.rows import Provenance, Row, Said, Side
from josh_pipeline.policies.weights import Quantization, require_continuable
from josh_pipeline.settings import ColdStartSettings
from josh_pipeline.settings.training import SftSettings, TrainingBase
from josh_pipeline.training.fit import fit
from josh_pipeline.training.job import TrainingJob, TrainingResult
from josh_pipeline.training.processes import train_in_processes
from josh_pipeline.training.tracking import TrackedRun


def train_cold_start(
    demonstrations: Sequence[Demonstration],
    foundation: Path,
    out: Path,
    settings: ColdStartSettings,
    seed: int,
    progress: Progress,
    training: TrainingBase,
    tracked: TrackedRun | None = None,
) -> TrainingResult:
    """Teach the foundation the agent's format by SFT on scripted conversations.

    Args:
        foundation: model folder.
        out: as for ``train``.
        training: says with how many processes and threads, and how long a conversation may be.
        tracked: where the curve is logged besides.

    Raises:
        UserError: a conversation is too long for ``training.max_tokens``.
    """
    sft = SftSettings(
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        processes=training.processes,
        threads=training.threads,
        packed=training.packed,
        max_tokens=training.max_tokens,
    )
    rows = tuple(_demonstrated(one, number) for number, one in enumerate(demonstrations))
    job = TrainingJob("cold start", rows, foundation, None, sft, seed, "none", tracked)
    return _trained(job, out, progress)


def _demonstrated(demonstration: Demonstration, number: int) -> Row:
    # The script's end: whatever follows the last assistant message teaches nothing.
    messages: Conversation = demonstration.conversation
    while messages and messages[-1].role != "assistant":
        messages = messages[:-1]
    source = Provenance(demonstration.goal_id, f"demonstration-{number}", "script")
    said = tuple(Said(message, train=message.role == "assistant") for message in messages[1:])
    return Row("sft", source, (), messages[:1], (Side(said, "desirable"),))


def train(
    rows: Sequence[Row],
    base: Path,
    adapter: Path | None,
    out: Path,
    settings: TrainingBase,
    seed: int,
    progress: Progress,
    quantization: Quantization,
    tracked: TrackedRun | None = None,
) -> TrainingResult:
    """Train the next adapter; a training that was killed goes on from its last checkpoint.

    Args:
        rows: all harvested for ``settings.method``.
        base: model folder of the base.
        adapter: the previous policy's adapter, None where that is the base itself.
        out: folder for trainings at work. Each has a folder of its own there, named by all that it
            depends on, which holds its checkpoints and at the end its adapter; the caller takes the
            adapter and removes the folder.
        quantization: of the frozen weights while training.
        tracked: where the curve is logged besides.

    Raises:
        UserError: rows are too long, or too few, or an adapter would be laid on weights that were all trained.
    """
    require_continuable(adapter, settings)
    task = f"{settings.method.rpartition(':')[2].upper()} training"
    job = TrainingJob(task, tuple(rows), base, adapter, settings, seed, quantization, tracked)
    return _trained(job, out, progress)


def _trained(job: TrainingJob, out: Path, progress: Progress) -> TrainingResult:
    work = out / job.digest
    work.mkdir(parents=True, exist_ok=True)
    with alone(work / "lock", "The same training runs already: wait for it."):
        return (train_in_processes if job.settings.processes else fit)(job, work, progress)
