"""Training methods: what each learns from, how its rows become batches, its loss, and TRL's trainer for it.

A method is declared by a class here and its settings in ``josh_pipeline.settings``. One's own subclasses
``Method``, and ``training.method`` names its class (``path/to/file.py:Class``). What is heavy is imported
where it is used: stages ask a method what it learns from, and that takes no seconds.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.named import named_class
from josh_pipeline.harvest.rows import Kind, Row, Sample
from josh_pipeline.settings.training import (
    METHOD_GROUP,
    METHODS,
    DpoSettings,
    KtoSettings,
    SftSettings,
    SrpgSettings,
    TrainingBase,
)
from josh_pipeline.training.batches import mixed_batches, tree_batches
from josh_pipeline.training.tokens import TokenExample, TokenRow

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import TrainingArguments

    from josh_pipeline.training.objectives import Metrics

S = TypeVar("S", bound=TrainingBase)


@dataclass(frozen=True)
class Team:
    """What a loss needs to know of the whole step.

    Attributes:
        labelled: labelled tokens of the step's batches, in all processes.
        processes: that train together; gradients are averaged over them.
        mean: averages a number over them.
    """

    labelled: "Tensor | int"
    processes: int
    mean: "Callable[[Tensor], Tensor]"


@dataclass(frozen=True)
class TrlParts:
    """What TRL's trainer of a method is made from: its class, its arguments, and an entry a row."""

    trainer: Any
    arguments: "TrainingArguments"
    data: list[dict[str, Any]]


class Method(ABC, Generic[S]):
    """A way to train an adapter on harvested rows.

    Args:
        settings: validated.

    Attributes:
        Settings: the class of its settings; ``ReferenceSettings`` where it is held to a reference policy.
        kind: what it learns from.
        whole_step: its loss is a sum over all batches of a step, not a mean of their means.
        per_token: its loss takes the log-probability of each labelled token, not of each example, and holds it
            to that of another policy: nothing is dropped out.
    """

    Settings: ClassVar[type[TrainingBase]]
    kind: ClassVar[Kind]
    whole_step: ClassVar[bool] = False
    per_token: ClassVar[bool] = False

    def __init__(self, settings: S) -> None:
        self.settings = settings

    def deal(self, rows: Sequence[Row], seed: int) -> list[list[int]]:
        """Say which rows, by position, are trained together.

        Raises:
            UserError: there are too few of them.
        """
        return tree_batches([row.source.rollout_id for row in rows], self.settings.batch_size, seed)

    def examples(self, batch: Sequence[TokenRow]) -> list[TokenExample]:
        """Return the sequences of a batch, each of which the loss gets the score of."""
        return [example for row in batch for example in row.examples]

    def extras(self, batch: Sequence[TokenRow]) -> Mapping[str, list[Any]]:
        """Return what the loss of a batch needs besides, as lists of numbers.

        ``temperatures`` among them, one an example, are those that its tokens are scored at.
        """
        return {}

    @abstractmethod
    def loss(self, scores: "Tensor", batch: Mapping[str, Any], team: Team) -> "tuple[torch.Tensor, Metrics]":
        """Return the loss of a batch, and what is logged.

        Args:
            scores: log-probability of the labelled tokens of each of ``examples``, or of each token, as
                ``per_token`` says. A conversation may be several examples: see ``TokenRow``.
            batch: ``extras`` as tensors; ``item_row``, a place for each labelled token; and ``reference``,
                the reference policy's scores, where the method is held to one.
        """

    def trl(self, shared: dict[str, Any], batches: Sequence[Sequence[TokenRow]]) -> TrlParts:
        """Return the parts of TRL's trainer, for ``training.packed: false``.

        Args:
            shared: arguments of every trainer.

        Raises:
            UserError: TRL has none.
        """
        raise without_trainer(self.settings.method)


def without_trainer(name: str) -> UserError:
    """Return what is raised for a method that TRL does not train, where ``training.packed`` is false."""
    return UserError(f"TRL has no trainer for training.method {name}: set training.packed to true.")


def method_class(name: str) -> type[Method[Any]]:
    """Find a method by the name that the settings use.

    Raises:
        UserError: there is none of that name, or it cannot be imported.
    """
    found: type[Method[Any]] = named_class(name, "training method", METHODS, METHOD_GROUP)
    return found


def method_of(settings: TrainingBase) -> Method[Any]:
    """Return the method that the settings train with."""
    return method_class(settings.method)(settings)


class Sft(Method[SftSettings]):
    """Cross entropy on chosen messages of golden conversations."""

    Settings = SftSettings
    kind = "conversations"
    whole_step = True

    def loss(self, scores: "Tensor", batch: Mapping[str, Any], team: Team) -> "tuple[Tensor, Metrics]":
        """Return the batch's share of the mean over the tokens of the whole step."""
        # Gradients are averaged over processes, and this is a share of a sum.
        return -scores.sum() / team.labelled * team.processes, {}

    def trl(self, shared: dict[str, Any], batches: Sequence[Sequence[TokenRow]]) -> TrlParts:
        """Return TRL's SFT, in batches by length."""
        from trl import SFTConfig

        from josh_pipeline.training.trl_tokens import TokenSftTrainer

        data = [
            {
                "input_ids": [list(example.input_ids) for example in row.examples],
                "labels": [list(example.labels) for example in row.examples],
                "length": sum(len(example.input_ids) for example in row.examples),
            }
            for batch in batches
            for row in batch
        ]
        return TrlParts(TokenSftTrainer, SFTConfig(**shared, train_sampling_strategy="group_by_length"), data)


class Kto(Method[KtoSettings]):
    """KTO on single labelled messages, its KL term estimated on neighbours in the batch."""

    Settings = KtoSettings
    kind = "messages"

    def deal(self, rows: Sequence[Row], seed: int) -> list[list[int]]:
        """Keep the rows of a tree together, and none beside another of its own tree."""
        trees = [row.source.rollout_id for row in rows]
        prompts = [row.prompt_id for row in rows]
        dealt = mixed_batches(trees, prompts, self.settings.batch_size, seed)
        if len({rows[place].label for batch in dealt for place in batch}) < 2:
            raise UserError(
                "KTO needs rows of both labels that have neighbours of other trees: roll out more goals, "
                "or choose another method."
            )
        return dealt

    def examples(self, batch: Sequence[TokenRow]) -> list[TokenExample]:
        """Return the rows, and behind them each row's prompt with the completion of the row before it."""
        own = [row.examples[0] for row in batch]
        return [*own, *(one.followed_by(own[place - 1]) for place, one in enumerate(own))]

    def extras(self, batch: Sequence[TokenRow]) -> Mapping[str, list[Any]]:
        """Return the labels, and how long the completions are."""
        return {
            "desirable": [row.row.label == "desirable" for row in batch],
            "lengths": [len(row.examples[0].completion) for row in batch],
        }

    def loss(self, scores: "Tensor", batch: Mapping[str, Any], team: Team) -> "tuple[Tensor, Metrics]":
        """Return KTO's loss."""
        from josh_pipeline.training.objectives import kto_loss

        desirable, lengths = batch["desirable"], batch["lengths"]
        return kto_loss(scores, batch["reference"], desirable, lengths, self.settings, team.mean)

    def trl(self, shared: dict[str, Any], batches: Sequence[Sequence[TokenRow]]) -> TrlParts:
        """Return TRL's KTO, in the same batches."""
        from trl import KTOConfig

        from josh_pipeline.training.trl_tokens import TokenKtoTrainer

        arguments = KTOConfig(
            **shared,
            beta=self.settings.beta,
            desirable_weight=self.settings.desirable_weight,
            undesirable_weight=self.settings.undesirable_weight,
        )
        data = [
            {
                "prompt_ids": list(row.examples[0].prompt),
                "completion_ids": list(row.examples[0].completion),
                "KL_completion_ids": list(batch[place - 1].examples[0].completion),
                "label": row.row.label == "desirable",
            }
            for batch in batches
            for place, row in enumerate(batch)
        ]
        return TrlParts(TokenKtoTrainer, arguments, data)


class Dpo(Method[DpoSettings]):
    """DPO on pairs of messages after the same prompt."""

    Settings = DpoSettings
    kind = "pairs"

    def examples(self, batch: Sequence[TokenRow]) -> list[TokenExample]:
        """Return the chosen sides, and behind them the rejected ones."""
        return [*(row.examples[0] for row in batch), *(row.examples[1] for row in batch)]

    def extras(self, batch: Sequence[TokenRow]) -> Mapping[str, list[Any]]:
        """Return how long the chosen messages are."""
        return {"lengths": [len(row.examples[0].completion) for row in batch]}

    def loss(self, scores: "Tensor", batch: Mapping[str, Any], team: Team) -> "tuple[Tensor, Metrics]":
        """Return DPO's loss."""
        from josh_pipeline.training.objectives import dpo_loss

        return dpo_loss(scores, batch["reference"], batch["lengths"], self.settings)

    def trl(self, shared: dict[str, Any], batches: Sequence[Sequence[TokenRow]]) -> TrlParts:
        """Return TRL's DPO, in the same batches."""
        from trl import DPOConfig

        from josh_pipeline.training.trl_tokens import TokenDpoTrainer

        weight = self.settings.sft_weight
        with_sft = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, weight]} if weight else {}
        arguments = DPOConfig(**shared | with_sft, beta=self.settings.beta, train_sampling_strategy="sequential")
        data = [
            {
                "prompt_ids": list(chosen.prompt),
                "chosen_ids": list(chosen.completion),
                "rejected_ids": list(rejected.completion),
            }
            for batch in batches
            for chosen, rejected in (row.examples for row in batch)
        ]
        return TrlParts(TokenDpoTrainer, arguments, data)


class Srpg(Method[SrpgSettings]):
    """Clipped policy gradient on sampled messages, each judged beside the other branches of its segment."""

    Settings = SrpgSettings
    kind = "samples"
    whole_step = True
    per_token = True

    def examples(self, batch: Sequence[TokenRow]) -> list[TokenExample]:
        """Return a message once for each leaf below it, as GRPO has it; packed, its tokens are computed once."""
        return [row.examples[0] for row in batch for _ in range(sample_of(row).leaves)]

    def extras(self, batch: Sequence[TokenRow]) -> Mapping[str, list[Any]]:
        """Return the advantage and temperature of each example, and the log-probability of each sampled token."""
        samples = [sample for row in batch for sample in [sample_of(row)] * sample_of(row).leaves]
        scaled = self.settings.scale == "std"
        return {
            "advantages": [one.advantage / (one.deviation + LEAST_DEVIATION if scaled else 1) for one in samples],
            "temperatures": [one.temperature for one in samples],
            "logprobs": [logprob for one in samples for logprob in one.logprobs],
        }

    def loss(self, scores: "Tensor", batch: Mapping[str, Any], team: Team) -> "tuple[Tensor, Metrics]":
        """Return the batch's share of the mean over the tokens of the whole step."""
        from josh_pipeline.training.objectives import clipped_loss

        advantages = batch["advantages"][batch["item_row"]]
        total, metrics = clipped_loss(scores, batch["logprobs"], advantages, batch.get("reference"), self.settings)
        return total / team.labelled * team.processes, metrics


LEAST_DEVIATION = 1e-4
"""Added to what advantages are divided by, as TRL does."""


def sample_of(row: TokenRow) -> Sample:
    """Return how a row's message was sampled."""
    sample = row.row.sample
    assert sample is not None
    return sample
