"""What a training is given and what it leaves, in memory and as JSON."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter

from josh_pipeline.core.content import content_id
from josh_pipeline.harvest.rows import Row
from josh_pipeline.policies.models import model_digest
from josh_pipeline.policies.weights import Quantization
from josh_pipeline.settings.training import AnyTrainingSettings, ReferenceSettings
from josh_pipeline.training.tracking import TrackedRun

DEALING = 4
"""Version of how rows become tokens and batches: a checkpoint of another one is not gone on from."""


@dataclass(frozen=True)
class TrainingJob:
    """Everything that an adapter depends on, and where its making is told.

    Attributes:
        task: its name in the progress.
        rows: all harvested for ``settings.method``.
        base: model folder of the base.
        adapter: the previous policy's adapter; None where that is the base itself.
        quantization: of the frozen weights while training.
        tracked: where the curve is logged besides; no adapter depends on it.
    """

    task: str
    rows: tuple[Row, ...]
    base: Path
    adapter: Path | None
    settings: AnyTrainingSettings
    seed: int
    quantization: Quantization
    tracked: TrackedRun | None = None

    @property
    def start(self) -> Path | None:
        """The adapter that training goes on from."""
        return self.adapter if self.settings.start == "previous" else None

    @property
    def referenced(self) -> bool:
        """Whether the policy is held to a reference."""
        return isinstance(self.settings, ReferenceSettings) and self.settings.beta > 0

    @property
    def reference(self) -> Path | None:
        """The adapter of the reference policy; None is the base itself."""
        settings = self.settings
        held_to_previous = isinstance(settings, ReferenceSettings) and settings.reference == "previous"
        return self.adapter if held_to_previous else None

    @cached_property
    def digest(self) -> str:
        """Content hash; trainings with equal digests are the same training."""
        return content_id(
            [[row.row_id, [[one.token_ids for one in side.said] for side in row.sides]] for row in self.rows],
            model_digest(self.base),
            model_digest(self.adapter) if self.adapter else None,
            self.settings.model_dump(mode="json"),
            self.seed,
            self.quantization,
            DEALING,
        )

    def absolute(self) -> Self:
        """Return it as another process on this machine can read it."""
        return replace(self, base=self.base.absolute(), adapter=self.adapter.absolute() if self.adapter else None)


@dataclass(frozen=True)
class TrainingResult:
    """What a training left.

    Attributes:
        adapter: folder of the adapter.
        digest: content hash of the adapter's weights and configuration.
        curve: what the trainer logged, an entry a step: step, epoch, loss, learning_rate, ...
        rows, tokens: rows of an epoch, and their tokens one by one; of a pair both sides.
        repeated: share of those tokens that a batch holds more than once, as beginnings of several rows.
        seconds: wall time, loading included.
        rows_per_second: rows over the time of the steps and the reference's scores.
        record: the resolved settings of the run.
        link: of the tracker's run; None without a tracker.
    """

    adapter: Path
    digest: str
    curve: list[dict[str, float]]
    rows: int
    tokens: int
    repeated: float
    seconds: float
    rows_per_second: float
    record: dict[str, Any] = field(default_factory=dict)
    link: str | None = None


JOBS = TypeAdapter(TrainingJob)
RESULTS = TypeAdapter(TrainingResult)
"""Both as JSON, for another process."""
