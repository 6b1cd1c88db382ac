"""What a training is given and what it leaves, in memory and as JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from josh_pipeline.core.ids import content_id
from josh_pipeline.harvest.codec import row_from_record, row_record
from josh_pipeline.harvest.rows import Row
from josh_pipeline.policies.models import model_digest
from josh_pipeline.policies.quantization import Quantization
from josh_pipeline.settings import TrainingSettings

DEALING = 2
"""Version of how KTO's and DPO's rows become batches: a checkpoint of another one is not gone on from."""


@dataclass(frozen=True)
class TrainingJob:
    """Everything that an adapter depends on.

    Attributes:
        task: its name in the progress.
        rows: all of the kind that ``settings.method`` trains on.
        base: model folder of the base.
        adapter: the previous policy's adapter; None where that is the base itself.
        quantization: of the frozen weights while training.
    """

    task: str
    rows: tuple[Row, ...]
    base: Path
    adapter: Path | None
    settings: TrainingSettings
    seed: int
    quantization: Quantization

    @property
    def start(self) -> Path | None:
        """The adapter that training goes on from."""
        return self.adapter if self.settings.start == "previous" else None

    @property
    def reference(self) -> Path | None:
        """The adapter of the reference policy; None is the base itself."""
        if self.settings.method == "sft" or self.settings.reference == "base":
            return None
        return self.adapter

    @cached_property
    def digest(self) -> str:
        """Content hash; trainings with equal digests are the same training."""
        return content_id(
            [row.row_id for row in self.rows],
            model_digest(self.base),
            model_digest(self.adapter) if self.adapter else None,
            self.settings.model_dump(mode="json"),
            self.seed,
            self.quantization,
            *([] if self.settings.method == "sft" else [DEALING]),
        )

    def to_json(self) -> str:
        """Write it for another process on this machine."""
        return json.dumps(
            {
                "task": self.task,
                "rows": [row_record(row) for row in self.rows],
                "base": str(self.base.absolute()),
                "adapter": str(self.adapter.absolute()) if self.adapter else None,
                "settings": self.settings.model_dump(mode="json"),
                "seed": self.seed,
                "quantization": self.quantization,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> "TrainingJob":
        """Read what ``to_json`` wrote."""
        value = json.loads(text)
        return cls(
            task=value["task"],
            rows=tuple(row_from_record(record) for record in value["rows"]),
            base=Path(value["base"]),
            adapter=Path(value["adapter"]) if value["adapter"] else None,
            settings=TypeAdapter(TrainingSettings).validate_python(value["settings"]),
            seed=value["seed"],
            quantization=value["quantization"],
        )


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

    def to_json(self) -> dict[str, Any]:
        """Write it for another process on this machine."""
        return asdict(self) | {"adapter": str(self.adapter)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "TrainingResult":
        """Read what ``to_json`` wrote."""
        return cls(**{**value, "adapter": Path(value["adapter"])})
