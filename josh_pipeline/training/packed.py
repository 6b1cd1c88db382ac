"""SFT, KTO and DPO on packed rows: the losses of TRL's trainers, each shared prefix computed once."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from transformers import Trainer, TrainingArguments

from josh_pipeline.settings import DpoSettings, KtoSettings, SftSettings, TrainingSettings
from josh_pipeline.training.examples import KtoTokens, PairTokens, TokenExample
from josh_pipeline.training.objectives import Metrics, dpo_loss, kto_loss
from josh_pipeline.training.packing import pack, visible_blocks

Batch = dict[str, Any]
"""The attributes of a batch's ``PackedRows`` by name, and what its loss needs besides."""


def sft_batch(rows: Sequence[TokenExample]) -> Batch:
    """Pack conversations."""
    return dict(vars(pack(rows)))


def kto_batch(rows: Sequence[KtoTokens]) -> Batch:
    """Pack rows, and behind them each row's prompt with the completion of the row before it."""
    mismatched = [row.prompted.followed_by(rows[place - 1].prompted) for place, row in enumerate(rows)]
    packed = pack([*(row.prompted.example for row in rows), *mismatched])
    return vars(packed) | {
        "desirable": torch.tensor([row.desirable for row in rows]),
        "lengths": torch.tensor([len(row.prompted.completion) for row in rows]),
    }


def dpo_batch(pairs: Sequence[PairTokens]) -> Batch:
    """Pack the chosen sides, and behind them the rejected ones."""
    packed = pack([*(pair.chosen.example for pair in pairs), *(pair.rejected.example for pair in pairs)])
    return vars(packed) | {"lengths": torch.tensor([len(pair.chosen.completion) for pair in pairs])}


def model_inputs(batch: Batch) -> dict[str, Any]:
    """Return what a causal LM with ``tree_attention`` takes.

    Who sees whom is worked out for the batch at hand: the masks of all batches at once would fill the
    memory where rows are long.
    """
    return {
        "input_ids": batch["input_ids"][None],
        "position_ids": batch["depths"][None],
        "tree": visible_blocks(batch["ends"]),
        "logits_to_keep": batch["parents"],
    }


def row_scores(model: Any, batch: Batch) -> Tensor:
    """Return the log-probability of each row's labelled tokens, (rows,), in float32."""
    logits = model(**model_inputs(batch), use_cache=False).logits[0].float()
    scores = logits[batch["edge_parent"], batch["edge_token"]]
    edges = scores - logits.logsumexp(dim=-1)[batch["edge_parent"]]
    zeros: Tensor = edges.new_zeros(batch["rows"])
    return zeros.index_add(0, batch["item_row"], edges[batch["item_edge"]])


def add_reference(model: Any, batches: Sequence[Batch], process: int, processes: int) -> None:
    """Score every batch with the reference policy, once for all epochs, and keep it in the batch.

    Args:
        model: the reference policy.
        process, processes: which of how many processes this is; they share the work.
    """
    model.eval()
    mine = []
    for batch in batches[process::processes]:
        with torch.no_grad():
            on_device = {
                name: value.to(model.device) if isinstance(value, Tensor) else value
                for name, value in batch.items()
            }
            mine.append(row_scores(model, on_device).cpu())
    everyones = gather_object([(process + place * processes, scores) for place, scores in enumerate(mine)])
    for place, scores in everyones:
        batches[place]["reference"] = scores


class PackedTrainer(Trainer):
    """Trains on prepared batches, one a device and step.

    Args:
        model: with ``tree_attention``.
        settings: decide the loss.
        batches: in the order in which they are trained; for KTO and DPO with their reference scores.
        arguments: of transformers' ``Trainer``.
    """

    def __init__(
        self, model: Any, settings: TrainingSettings, batches: Sequence[Batch], arguments: TrainingArguments
    ) -> None:
        super().__init__(
            model=model, args=arguments, train_dataset=batches, data_collator=lambda items: items[0]
        )
        self._settings = settings
        # SFT is a mean over the tokens of a whole step, KTO and DPO are means of the batches' means.
        self.loss_is_scaled_for_ga = isinstance(settings, SftSettings)
        self._sums: dict[str, list[Tensor]] = defaultdict(lambda: [torch.zeros(()), torch.zeros(())])
        if not isinstance(settings, SftSettings):
            # A reference without dropout cannot be compared with a policy that drops.
            for module in model.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0

    def get_batch_samples(
        self, epoch_iterator: Any, num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Tensor]:
        """Return the batches of a step, and their labelled tokens in all processes."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        labelled = torch.tensor(sum(len(batch["item_row"]) for batch in batches), device=device)
        return batches, self.accelerator.reduce(labelled, "sum")

    def compute_loss(
        self,
        model: Any,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Return the loss of one batch."""
        scores = row_scores(model, inputs)
        if isinstance(self._settings, SftSettings):
            labelled = len(inputs["item_row"]) if num_items_in_batch is None else num_items_in_batch
            # Gradients are averaged over processes, and this is a share of a sum.
            share: Tensor = -scores.sum() / labelled * self.accelerator.num_processes
            return share
        reference, lengths = inputs["reference"], inputs["lengths"]
        metrics: Metrics
        if isinstance(self._settings, KtoSettings):
            loss, metrics = kto_loss(
                scores, reference, inputs["desirable"], lengths, self._settings, self._mean_of_processes
            )
        else:
            assert isinstance(self._settings, DpoSettings)
            loss, metrics = dpo_loss(scores, reference, lengths, self._settings)
        for name, pair in metrics.items():
            for place, value in enumerate(pair):
                self._sums[name][place] = self._sums[name][place] + value.detach().cpu()
        return loss

    def _mean_of_processes(self, value: Tensor) -> Tensor:
        mean: Tensor = self.accelerator.reduce(value, "mean")
        return mean

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the means since the last time, over all processes."""
        for name in sorted(self._sums):
            total, count = (self.accelerator.reduce(v.to(self.args.device), "sum") for v in self._sums[name])
            if count:
                logs[name] = float(total / count)
        if "rewards/chosen" in logs and "rewards/rejected" in logs:
            logs.setdefault("rewards/margins", logs["rewards/chosen"] - logs["rewards/rejected"])
        self._sums.clear()
        super().log(logs, start_time)
