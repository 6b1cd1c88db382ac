"""The trainer of a job: ours on packed rows, or one of TRL's on plain ones, with the same settings.

Packed, each prefix that rows of a batch share is computed once; the losses are those of TRL's trainers.
"""

import json
import logging
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from accelerate import PartialState
from accelerate.utils import gather_object, send_to_device
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from josh_pipeline.core.errors import UserError
from josh_pipeline.policies.chat import ChatRenderer
from josh_pipeline.policies.loading import LOADING_WEIGHTS
from josh_pipeline.policies.weights import Quantization, laid_on, quantization_config
from josh_pipeline.settings.training import TrainingBase
from josh_pipeline.training.batches import refuse_long
from josh_pipeline.training.job import TrainingJob
from josh_pipeline.training.methods import Method, Team, method_of
from josh_pipeline.training.packing import IMPLEMENTATION, pack, visible_blocks
from josh_pipeline.training.tokens import RowTokenizer, TokenExample, TokenRow

Batch = dict[str, Any]
"""The attributes of a batch's ``PackedRows`` by name, and what its loss needs besides."""
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
CHECKPOINT_SHARE = 0.1
"""Of all steps, between two checkpoints: a kill costs a tenth of the training at most."""


@dataclass(frozen=True)
class Rows:
    """A job's rows in batches: what every form of training starts from.

    Attributes:
        batches: rows as they stand together in a batch.
        packed: the same as ``PackedTrainer`` takes them; empty where plain rows are trained.
    """

    batches: list[list[TokenRow]]
    packed: list[Batch]

    @property
    def tokens(self) -> list[list[TokenExample]]:
        """The batches as token sequences, of a row as many as it has."""
        return [[example for row in batch for example in row.examples] for batch in self.batches]

    @property
    def rows(self) -> int:
        """Rows that are trained on."""
        return sum(len(batch) for batch in self.batches)

    @property
    def plain_tokens(self) -> int:
        """Tokens of the rows one by one."""
        return sum(len(example.input_ids) for batch in self.tokens for example in batch)

    @property
    def repeated(self) -> float:
        """Share of those tokens that a batch holds more than once."""
        return 1 - sum(pack(batch).tokens for batch in self.tokens) / self.plain_tokens


def batched_rows(job: TrainingJob, renderer: ChatRenderer) -> Rows:
    """Tokenize a job's rows and deal them into batches, in the order in which they are trained.

    Raises:
        UserError: rows are of another method, too long or too few, or the model's template has changed.
    """
    if any(row.method != job.settings.method for row in job.rows):
        raise UserError(f"The rows were not harvested for training.method {job.settings.method}: harvest them again.")
    method = method_of(job.settings)
    tokenizer = RowTokenizer(renderer)
    dealt = method.deal(job.rows, job.seed)
    batches = [[tokenizer.tokens(job.rows[place]) for place in batch] for batch in dealt]
    rows = Rows(batches, [packed_batch(method, batch) for batch in batches if job.settings.packed])
    lengths = [max(len(one.input_ids) for one in row.examples) for batch in batches for row in batch]
    refuse_long(lengths, job.settings.max_tokens)
    return rows


def packed_batch(method: Method[Any], batch: Sequence[TokenRow]) -> Batch:
    """Pack the sequences of a batch, and add what its loss needs besides."""
    extras = {name: torch.tensor(values) for name, values in method.extras(batch).items()}
    return vars(pack(method.examples(batch))) | extras


def packed_trainer(job: TrainingJob, rows: Rows, out: Path) -> "PackedTrainer":
    """Set up training on packed rows; the reference is scored here, once for all epochs."""
    arguments = TrainingArguments(
        **shared_arguments(job, out)
        | {
            "per_device_train_batch_size": 1,
            "train_sampling_strategy": "sequential",
            "remove_unused_columns": False,
            "label_names": [],
        }
    )
    method = method_of(job.settings)
    if job.referenced:
        state = PartialState()
        # Gone from the memory before the model that is trained comes, which may be as large.
        reference = load_policy(job, job.reference, IMPLEMENTATION, arguments.device)
        with torch.autocast(arguments.device.type, torch.bfloat16, enabled=arguments.bf16):
            add_reference(reference, rows.packed, method, state.process_index, state.num_processes)
        del reference
    model = trainable(job, IMPLEMENTATION, arguments.device)
    if job.settings.gradient_checkpointing:
        model.enable_input_require_grads()
    return PackedTrainer(model, method, job.referenced or method.per_token, rows.packed, arguments)


def plain_trainer(job: TrainingJob, rows: Rows, renderer: ChatRenderer, out: Path) -> Trainer:
    """Set up TRL's trainer on the same rows."""
    # TRL's default cuts rows, and the mismatched ones of KTO may be longer than any row.
    shared = shared_arguments(job, out) | {"max_length": None}
    parts = method_of(job.settings).trl(shared, rows.batches)
    # On CPU, padded rows of 400 tokens: 326 tokens a second with eager attention, 196 with sdpa.
    attention = "sdpa" if torch.cuda.is_available() else "eager"
    trainer: Trainer = parts.trainer(
        model=trainable(job, attention, parts.arguments.device),
        args=parts.arguments,
        processing_class=renderer.tokenizer,
        train_dataset=datasets.Dataset.from_list(parts.data),
    )
    if job.referenced:
        set_reference(trainer.model, job.reference)
    return trainer


def shared_arguments(job: TrainingJob, out: Path) -> dict[str, Any]:
    """Return what all trainers are told alike."""
    logging.getLogger("trl").setLevel(logging.ERROR)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    settings: TrainingBase = job.settings
    if settings.threads:
        torch.set_num_threads(settings.threads)
    cuda = torch.cuda.is_available()
    run = job.tracked
    tracked = {"report_to": run.kind, "run_name": run.name, "project": run.project} if run else {"report_to": "none"}
    return {
        "output_dir": str(out),
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.accumulation,
        "lr_scheduler_type": settings.schedule,
        "warmup_steps": settings.warmup,
        "weight_decay": settings.weight_decay,
        "optim": settings.optimizer,
        "max_grad_norm": 1.0,
        # Under an adapter the weights are in bfloat16 and it is in float32: autocast would only cast again.
        "bf16": cuda and settings.lora is None,
        # TRL's default trades a third more time for memory that LoRA on a small model does not need.
        "gradient_checkpointing": settings.gradient_checkpointing,
        "logging_steps": 1,
        # A loss that is no number must be seen, and not be replaced by the mean of those before it.
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": CHECKPOINT_SHARE,
        "save_total_limit": 1,
        **tracked,
        "disable_tqdm": True,
        "dataloader_pin_memory": cuda,
        "use_cpu": not cuda,
        "ddp_backend": "gloo" if torch.distributed.is_torchelastic_launched() and not cuda else None,
        "ddp_find_unused_parameters": False,
        "seed": job.seed,
    }


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


def scores_of(method: Method[Any], model: Any, batch: Batch) -> Tensor:
    """Return the log-probability of each labelled token, or of all those of each example, in float32."""
    logits = model(**model_inputs(batch), use_cache=False).logits[0].float()
    zeros: Tensor = logits.new_zeros(batch["rows"])
    heat = batch.get("temperatures", zeros + 1)[batch["item_row"]]
    scores = torch.zeros_like(heat)
    # Siblings may have been sampled at temperatures of their own, and yet share tokens.
    for temperature in heat.unique():
        hot = logits if temperature == 1 else logits / temperature
        edges = hot[batch["edge_parent"], batch["edge_token"]] - hot.logsumexp(dim=-1)[batch["edge_parent"]]
        scores = torch.where(heat == temperature, edges[batch["item_edge"]], scores)
    return scores if method.per_token else zeros.index_add(0, batch["item_row"], scores)


def add_reference(model: Any, batches: Sequence[Batch], method: Method[Any], process: int, processes: int) -> None:
    """Score every batch with the reference policy, once for all epochs, and keep it in the batch.

    Args:
        model: the reference policy.
        method: says of what scores are.
        process, processes: which of how many processes this is; they share the work.
    """
    model.eval()
    mine = []
    for batch in batches[process::processes]:
        with torch.no_grad():
            mine.append(scores_of(method, model, send_to_device(batch, model.device)).cpu())
    everyones = gather_object([(process + place * processes, scores) for place, scores in enumerate(mine)])
    for place, scores in everyones:
        batches[place]["reference"] = scores


class PackedTrainer(Trainer):
    """Trains on prepared batches, one a device and step.

    Args:
        model: with ``tree_attention``.
        method: decides the loss.
        compared: the policy is held to another one, whose scores the batches hold.
        batches: in the order in which they are trained.
        arguments: of transformers' ``Trainer``.
    """

    def __init__(
        self, model: Any, method: Method[Any], compared: bool, batches: Sequence[Batch], arguments: TrainingArguments
    ) -> None:
        super().__init__(model=model, args=arguments, train_dataset=batches, data_collator=lambda items: items[0])
        self._method = method
        self.loss_is_scaled_for_ga = method.whole_step
        self._sums: dict[str, list[Tensor]] = defaultdict(lambda: [torch.zeros(()), torch.zeros(())])
        if compared:
            # What was scored without dropout cannot be compared with a policy that drops.
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
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Return the loss of one batch."""
        labelled = len(inputs["item_row"]) if num_items_in_batch is None else num_items_in_batch
        team = Team(labelled, self.accelerator.num_processes, self._mean_of_processes)
        loss, metrics = self._method.loss(scores_of(self._method, model, inputs), inputs, team)
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


def load_base(base: Path, quantization: Quantization, attention: str, device: torch.device, dtype: torch.dtype) -> Any:
    """Load a model folder.

    Args:
        attention: transformers' name of the attention implementation.
    """
    return AutoModelForCausalLM.from_pretrained(
        base,
        dtype=dtype,
        device_map={"": device},
        attn_implementation=attention,
        quantization_config=quantization_config(quantization),
        **LOADING_WEIGHTS,
    )


def load_policy(job: TrainingJob, adapter: Path | None, attention: str, device: torch.device, **how: Any) -> Any:
    """Load a base with an adapter on it, or the checkpoint that one is.

    The weights are in bfloat16, and in float32 where all are trained: AdamW's steps are smaller than what
    bfloat16 tells apart.

    Args:
        how: of ``PeftModel.from_pretrained``.
    """
    folder, lora = laid_on(job.base, adapter)
    dtype = torch.float32 if job.settings.lora is None else torch.bfloat16
    model = load_base(folder, job.quantization, attention, device, dtype)
    return PeftModel.from_pretrained(model, lora, **how) if lora else model


def trainable(job: TrainingJob, attention: str, device: torch.device) -> Any:
    """Load what is trained: all weights, or a base with an adapter in float32, a fresh one drawn with the seed."""
    lora = job.settings.lora
    model = load_policy(job, job.start, attention, device, is_trainable=True)
    if lora is None:
        whole = model.merge_and_unload() if isinstance(model, PeftModel) else model
        return whole.requires_grad_(True)  # Under an adapter they were frozen.
    if job.start is not None:
        return _named_base(model)
    transformers.set_seed(job.seed)
    config = LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(PROJECTIONS),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def set_reference(model: Any, reference: Path | None) -> None:
    """Let TRL's KTO and DPO refer to an adapter, or to the base.

    TRL refers to the adapter ``ref`` where there is one, else to the model without adapter; and it makes
    ``ref`` a copy of the adapter that training starts from.
    """
    model.delete_adapter("ref")
    if reference is not None:
        model.load_adapter(reference, "ref")
        _named_base(model)


def _named_base(model: Any) -> Any:
    """Tell loaded adapters where their base lies: peft looks at it when it saves, on the hub if need be."""
    for config in model.peft_config.values():
        config.base_model_name_or_path = model.get_base_model().name_or_path
    return model


def write_adapter(model: Any, base: Path, folder: Path) -> None:
    """Write what was trained alone, so that equal weights give equal files wherever they are made."""
    shutil.rmtree(folder, ignore_errors=True)
    if not isinstance(model, PeftModel):
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink(missing_ok=True)  # of no weight: the base's stands
        return
    model.save_pretrained(folder, selected_adapters=["default"])
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card names local paths
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    # peft writes a set in the order of this process's string hashes, and the base's place on this machine.
    config["target_modules"] = sorted(config["target_modules"])
    config["base_model_name_or_path"] = base.name
    path.write_text(json.dumps(config, indent=2, sort_keys=True))
