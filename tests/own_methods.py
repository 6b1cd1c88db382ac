"""Training methods of one's own, as a user would write them: each a class and its settings."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from josh_pipeline.settings.training import TrainingBase
from josh_pipeline.training.methods import Method, Team
from josh_pipeline.training.tokens import IGNORED, TokenExample, TokenRow


class LastMessageSettings(TrainingBase):
    """Supervised fine-tuning on the last message of a conversation."""


class LastMessage(Method[LastMessageSettings]):
    """Cross entropy on the last trained message only."""

    Settings = LastMessageSettings
    kind = "conversations"
    whole_step = True

    def examples(self, batch: Sequence[TokenRow]) -> list[TokenExample]:
        return [last_only(row.examples[-1]) for row in batch]

    def loss(self, scores: Tensor, batch: Mapping[str, Any], team: Team) -> tuple[Tensor, dict[str, Any]]:
        return -scores.sum() / team.labelled * team.processes, {}


def last_only(example: TokenExample) -> TokenExample:
    """Keep the loss of the last run of labelled tokens."""
    places = [place for place, label in enumerate(example.labels) if label != IGNORED]
    first = next(place for place in reversed(places) if place - 1 not in places)
    return replace(example, labels=(IGNORED,) * first + example.labels[first:])


class UnlikelihoodSettings(TrainingBase):
    """Likelihood of desirable messages, unlikelihood of undesirable ones."""

    pull: float = 1.0


class Unlikelihood(Method[UnlikelihoodSettings]):
    """-log p of what is desirable, -log(1 - p) of what is not, p the mean probability of a token."""

    Settings = UnlikelihoodSettings
    kind = "messages"

    def extras(self, batch: Sequence[TokenRow]) -> Mapping[str, list[Any]]:
        return {
            "desirable": [row.row.label == "desirable" for row in batch],
            "lengths": [len(row.examples[0].completion) for row in batch],
        }

    def loss(self, scores: Tensor, batch: Mapping[str, Any], team: Team) -> tuple[Tensor, dict[str, Any]]:
        mean = scores / batch["lengths"]
        unlikely = -(1 - mean.exp()).clamp(min=1e-6).log()
        loss = (-mean).where(batch["desirable"], self.settings.pull * unlikely).mean()
        return loss, {"unlikely": (unlikely.detach().sum(), team.labelled)}
