"""The files of a policy, in the form that its engine serves."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Weights:
    """A base, and at most one adapter on it.

    Attributes:
        base: model folder.
        adapter: LoRA folder; None is the base itself.
        merged: where the two are kept as one checkpoint, for engines that serve that; it is a cache.
    """

    base: Path
    adapter: Path | None
    merged: Path

    def checkpoint(self) -> Path:
        """Return the folder of one whole model, merging base and adapter where that was not done yet."""
        if self.adapter is None:
            return self.base
        # Imported where it is used: torch takes seconds, and a served base needs no merging.
        from josh_pipeline.policies.merge import merge

        self.merged.parent.mkdir(parents=True, exist_ok=True)
        return merge(self.base, self.adapter, self.merged)

    @property
    def rank(self) -> int:
        """The adapter's rank; 0 without one."""
        if self.adapter is None:
            return 0
        return int(json.loads((self.adapter / "adapter_config.json").read_text())["r"])
