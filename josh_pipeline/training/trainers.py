"""The trainer of a job: ours on packed rows, or one of TRL's on plain ones, with the same settings."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from accelerate import PartialState
from peft import PeftModel
from transformers import Trainer, TrainingArguments
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, SFTConfig, SFTTrainer

from josh_pipeline.core.errors import UserError
from josh_pipeline.harvest.rows import DpoRow, KtoRow, SftRow, prompt_id
from josh_pipeline.policies.chat import ChatRenderer
from josh_pipeline.settings import TrainingBase
from josh_pipeline.training.batches import mixed_batches, tree_batches
from josh_pipeline.training.examples import (
    TokenExample,
    dpo_conversations,
    kto_conversations,
    kto_tokens,
    pair_tokens,
    refuse_long,
    sft_tokens,
)
from josh_pipeline.training.job import TrainingJob
from josh_pipeline.training.packed import (
    Batch,
    PackedTrainer,
    add_reference,
    dpo_batch,
    kto_batch,
    sft_batch,
)
from josh_pipeline.training.packing import pack
from josh_pipeline.training.tree_attention import IMPLEMENTATION
from josh_pipeline.training.weights import load_base, set_reference, trainable


@dataclass(frozen=True)
class Rows:
    """A job's rows in batches: what every form of training starts from.

    Attributes:
        batches: SFT, KTO or DPO rows, as they stand together in a batch.
        tokens: the same as token sequences, a pair as two of them.
        packed: the same as ``PackedTrainer`` takes them; empty where plain rows are trained.
    """

    batches: list[list[Any]]
    tokens: list[list[TokenExample]]
    packed: list[Batch]

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
        UserError: a row is too long, or KTO has too few rows for its KL term, or of one label only.
    """
    settings = job.settings
    trees = [row.source.rollout_id for row in job.rows]
    if settings.method == "kto":
        labelled = dict(_of(job, KtoRow))
        prompts = [prompt_id(row.tools, row.prompt) for row in labelled.values()]
        dealt = mixed_batches(trees, prompts, settings.batch_size, job.seed)
        if len({labelled[place].desirable for batch in dealt for place in batch}) < 2:
            raise UserError(
                "KTO needs rows of both labels that have neighbours of other trees: roll out more goals, "
                "or choose another method."
            )
        kto = {place: kto_tokens(row, renderer) for place, row in labelled.items()}
        tokens = [[kto[place].prompted.example for place in batch] for batch in dealt]
        packed = [kto_batch([kto[place] for place in batch]) for batch in dealt if settings.packed]
    elif settings.method == "dpo":
        dealt = tree_batches(trees, settings.batch_size, job.seed)
        pairs = {place: pair_tokens(row, renderer) for place, row in _of(job, DpoRow)}
        tokens = [
            [side.example for place in batch for side in (pairs[place].chosen, pairs[place].rejected)]
            for batch in dealt
        ]
        packed = [dpo_batch([pairs[place] for place in batch]) for batch in dealt if settings.packed]
    else:
        dealt = tree_batches(trees, settings.batch_size, job.seed)
        sft = {place: sft_tokens(row, renderer) for place, row in _of(job, SftRow)}
        tokens = [[sft[place] for place in batch] for batch in dealt]
        packed = [sft_batch(batch) for batch in tokens if settings.packed]
    refuse_long([len(example.input_ids) for batch in tokens for example in batch], settings.max_tokens)
    return Rows([[job.rows[place] for place in batch] for batch in dealt], tokens, packed)


def _of(job: TrainingJob, kind: type[Any]) -> list[tuple[int, Any]]:
    found = [(place, row) for place, row in enumerate(job.rows) if isinstance(row, kind)]
    if len(found) < len(job.rows):
        raise UserError(
            f"The rows were not harvested for training.method {job.settings.method}: harvest them again."
        )
    return found


def packed_trainer(job: TrainingJob, rows: Rows, out: Path) -> PackedTrainer:
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
    model = load_base(job.base, job.quantization, IMPLEMENTATION, arguments.device)
    if job.settings.method != "sft":
        policy = PeftModel.from_pretrained(model, job.reference) if job.reference else model
        state = PartialState()
        add_reference(policy, rows.packed, state.process_index, state.num_processes)
        model = policy.unload() if job.reference else model
    model = trainable(model, job.start, job.settings.lora, job.seed)
    if job.settings.gradient_checkpointing:
        model.enable_input_require_grads()
    return PackedTrainer(model, job.settings, rows.packed, arguments)


def plain_trainer(job: TrainingJob, rows: Rows, renderer: ChatRenderer, out: Path) -> Trainer:
    """Set up TRL's trainer on the same rows: KTO and DPO in the same batches, SFT in batches by length."""
    settings, shared = job.settings, shared_arguments(job, out)
    ordered = [row for batch in rows.batches for row in batch]
    # TRL's default cuts rows, and the mismatched ones of KTO may be longer than any row.
    shared["max_length"] = None

    arguments: TrainingArguments
    if settings.method == "sft":
        arguments = SFTConfig(**shared, train_sampling_strategy="group_by_length")
    elif settings.method == "kto":
        arguments = KTOConfig(
            **shared,
            beta=settings.beta,
            desirable_weight=settings.desirable_weight,
            undesirable_weight=settings.undesirable_weight,
        )
    else:
        with_sft = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, settings.sft_weight]}
        arguments = DPOConfig(
            **shared | (with_sft if settings.sft_weight else {}),
            beta=settings.beta,
            train_sampling_strategy="sequential",
        )
    # On CPU, padded rows of 400 tokens: 326 tokens a second with eager attention, 196 with sdpa.
    attention = "sdpa" if torch.cuda.is_available() else "eager"
    base = load_base(job.base, job.quantization, attention, arguments.device)
    given = {
        "model": trainable(base, job.start, settings.lora, job.seed),
        "args": arguments,
        "processing_class": renderer.tokenizer,
    }
    if settings.method == "sft":
        examples = [example for batch in rows.tokens for example in batch]
        data = [{"input_ids": list(e.input_ids), "labels": list(e.labels)} for e in examples]
        return SFTTrainer(train_dataset=datasets.Dataset.from_list(data), **given)
    trainer: Trainer
    if settings.method == "kto":
        trainer = KTOTrainer(train_dataset=_conversations(kto_conversations(ordered)), **given)
    else:
        trainer = DPOTrainer(train_dataset=_conversations(dpo_conversations(ordered)), **given)
    set_reference(trainer.model, job.reference)
    return trainer


def _conversations(rows: Sequence[dict[str, Any]]) -> datasets.Dataset:
    # Without use_json the keys of different tool calls are merged, and None filled in.
    return datasets.Dataset.from_list(list(rows), on_mixed_types="use_json")


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
        # The weights are in bfloat16 and the adapter in float32 already: autocast would only cast again.
        "bf16": False,
        # TRL's default trades a third more time for memory that LoRA on a small model does not need.
        "gradient_checkpointing": settings.gradient_checkpointing,
        "logging_steps": 1,
        # A loss that is no number must be seen, and not be replaced by the mean of those before it.
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": CHECKPOINT_SHARE,
        "save_total_limit": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": cuda,
        "use_cpu": not cuda,
        "ddp_backend": "gloo" if torch.distributed.is_torchelastic_launched() and not cuda else None,
        "ddp_find_unused_parameters": False,
        "seed": job.seed,
    }


CHECKPOINT_SHARE = 0.1
"""Of all steps, between two checkpoints: a kill costs a tenth of the training at most."""
