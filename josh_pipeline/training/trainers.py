"""TRL's trainers, set up for LoRA: what is passed on, and what of their defaults is overridden."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, SFTConfig

from josh_pipeline.policies.chat import ChatRenderer
from josh_pipeline.policies.merge import load_merged
from josh_pipeline.policies.quantization import Quantization, quantization_config
from josh_pipeline.progress import Progress
from josh_pipeline.settings import DpoSettings, KtoSettings, LoraSettings, SftSettings, TrainingBase
from josh_pipeline.training.examples import TokenExample
from josh_pipeline.training.sft import SparseLossSftTrainer

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def sft_trainer(
    examples: Sequence[TokenExample],
    base: Path,
    start: Path | None,
    out: Path,
    settings: SftSettings,
    seed: int,
    quantization: Quantization,
) -> SparseLossSftTrainer:
    """Set up SFT on tokenized conversations.

    Args:
        base: model folder.
        start: adapter to go on from; None begins a fresh one.
        out: folder for TRL's own files.
    """
    config = SFTConfig(**_shared(settings, out, seed), train_sampling_strategy="group_by_length")
    data = datasets.Dataset.from_list(
        [{"input_ids": list(e.input_ids), "labels": list(e.labels)} for e in examples]
    )
    return SparseLossSftTrainer(
        model=_trainable(base, start, settings.lora, seed, quantization),
        args=config,
        train_dataset=data,
        processing_class=ChatRenderer(base).tokenizer,
    )


def kto_trainer(
    rows: Sequence[dict[str, Any]],
    renderer: ChatRenderer,
    base: Path,
    start: Path | None,
    reference: Path | None,
    out: Path,
    settings: KtoSettings,
    seed: int,
    quantization: Quantization,
) -> KTOTrainer:
    """Set up KTO; the rows come in the order in which they are trained.

    Args:
        start: adapter to go on from; None begins a fresh one on the base.
        reference: adapter of the reference policy; None is the base itself.
    """
    config = KTOConfig(
        **_shared(settings, out, seed),
        beta=settings.beta,
        desirable_weight=settings.desirable_weight,
        undesirable_weight=settings.undesirable_weight,
    )
    return KTOTrainer(
        args=config,
        train_dataset=_conversations(rows),
        processing_class=renderer.tokenizer,
        **_with_reference(base, start, reference, settings.lora, seed, quantization),
    )


def dpo_trainer(
    rows: Sequence[dict[str, Any]],
    renderer: ChatRenderer,
    base: Path,
    start: Path | None,
    reference: Path | None,
    out: Path,
    settings: DpoSettings,
    seed: int,
    quantization: Quantization,
) -> DPOTrainer:
    """Set up DPO; ``start`` and ``reference`` are those of ``kto_trainer``."""
    config = DPOConfig(**_shared(settings, out, seed), beta=settings.beta)
    return DPOTrainer(
        args=config,
        train_dataset=_conversations(rows),
        processing_class=renderer.tokenizer,
        **_with_reference(base, start, reference, settings.lora, seed, quantization),
    )


def run_trainer(trainer: Trainer, out: Path, progress: Progress, task: str) -> list[dict[str, float]]:
    """Train, save the adapter alone into ``out``, and return what was logged, a step an entry."""
    # Without bars transformers prints every log entry; ours goes to the progress.
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(_Report(progress, task))
    trainer.train()
    curve = [
        {key: float(value) for key, value in entry.items()}
        for entry in trainer.state.log_history
        if "loss" in entry
    ]
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    trainer.model.save_pretrained(out, selected_adapters=["default"])
    (out / "README.md").unlink(missing_ok=True)  # peft's empty model card names local paths
    return curve


class _Report(TrainerCallback):
    """Passes steps on to a ``Progress``."""

    def __init__(self, progress: Progress, task: str) -> None:
        self._progress = progress
        self._task = task

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._progress.start(self._task, state.max_steps)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._progress.advance(self._task)

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._progress.finish(self._task)


def _shared(settings: TrainingBase, out: Path, seed: int) -> dict[str, Any]:
    """Arguments that TRL's three configurations share."""
    logging.getLogger("trl").setLevel(logging.ERROR)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    return {
        "output_dir": str(out),
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.accumulation,
        "lr_scheduler_type": settings.schedule,
        "warmup_steps": settings.warmup,
        "weight_decay": settings.weight_decay,
        "max_length": settings.max_tokens,
        "optim": settings.optimizer,
        "max_grad_norm": 1.0,
        # The weights are in bfloat16 and the adapter in float32 already: autocast would only cast again.
        "bf16": False,
        # TRL's default trades a third more time for memory that LoRA on a small model does not need.
        "gradient_checkpointing": settings.gradient_checkpointing,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "seed": seed,
    }


def _load(base: Path, quantization: Quantization) -> Any:
    cuda = torch.cuda.is_available()
    return AutoModelForCausalLM.from_pretrained(
        base,
        dtype=torch.bfloat16,
        device_map="cuda" if cuda else "cpu",
        # On CPU, padded rows of 400 tokens: 326 tokens a second with eager attention, 196 with sdpa.
        attn_implementation="sdpa" if cuda else "eager",
        quantization_config=quantization_config(quantization),
    )


def _lora(lora: LoraSettings) -> LoraConfig:
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(PROJECTIONS),
        task_type="CAUSAL_LM",
    )


def _trainable(
    base: Path, start: Path | None, lora: LoraSettings, seed: int, quantization: Quantization
) -> Any:
    model = _load(base, quantization)
    if start is not None:
        return PeftModel.from_pretrained(model, start, is_trainable=True)
    transformers.set_seed(seed)  # the fresh adapter is drawn here, before TRL sets its seed
    return get_peft_model(model, _lora(lora))


def _with_reference(
    base: Path,
    start: Path | None,
    reference: Path | None,
    lora: LoraSettings,
    seed: int,
    quantization: Quantization,
) -> dict[str, Any]:
    """Model and reference as TRL wants them.

    Without ``ref_model`` TRL takes the switched-off adapter as reference for a fresh adapter, and a
    frozen copy of the incoming one for a loaded adapter: both cheap, and used where they are meant.
    """
    if start is None and reference is None:
        return {"model": _load(base, quantization), "peft_config": _lora(lora)}
    model = _trainable(base, start, lora, seed, quantization)
    if start == reference:
        return {"model": model}
    return {"model": model, "ref_model": load_merged(base, reference).to(model.device)}


def _conversations(rows: Sequence[dict[str, Any]]) -> datasets.Dataset:
    # Without use_json the keys of different tool calls are merged, and None filled in.
    return datasets.Dataset.from_list(list(rows), on_mixed_types="use_json")
