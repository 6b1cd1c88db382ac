"""The files of a policy, and the form in which they are served: one checkpoint, or the adapter beside its base.

What a training leaves is called the adapter. It is a LoRA adapter, or, where all weights were trained, a
checkpoint in float32 that takes the base's place: rounded to bfloat16 between rounds, most steps would be lost.
"""

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from josh_pipeline.core.content import ID_HEX_DIGITS, content_id, full_id
from josh_pipeline.core.errors import UserError
from josh_pipeline.policies.loading import LOADING_WEIGHTS, refuse_pickles
from josh_pipeline.policies.models import model_digest, require_files
from josh_pipeline.settings.training import ReferenceSettings, TrainingBase

# torch, transformers and peft are imported where they are used: they take seconds, and stages import this.

Quantization = Literal["none", "nf4"]
WEIGHT_SUFFIXES = frozenset({".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx"})
"""A published folder may hold the same weights several times over, for several libraries."""


def require(quantization: Quantization) -> None:
    """Refuse settings that this machine cannot run, before anything starts.

    Raises:
        UserError: NF4 is asked for, and bitsandbytes or a GPU is missing.
    """
    if quantization != "none" and (importlib.util.find_spec("bitsandbytes") is None or not on_gpu()):
        raise UserError(
            "policy.quantization nf4 needs a GPU and bitsandbytes: run make gpu on such a machine, "
            "or set policy.quantization to none and training.optimizer to adamw_torch."
        )


def quantization_config(quantization: Quantization) -> Any:
    """Return what transformers' loaders take for the paper's 4-bit weights; None for plain ones.

    Raises:
        UserError: NF4 is asked for, and bitsandbytes or a GPU is missing.
    """
    require(quantization)
    if quantization == "none":
        return None
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)


def on_gpu() -> bool:
    """Whether models run on a GPU here."""
    import torch

    return bool(torch.cuda.is_available())


def serves_beside(quantization: Quantization) -> bool:
    """Whether an adapter is served beside its base, else merged into it.

    On a GPU weights are in bfloat16 or quantized: merging would round an adapter's small changes away, undo
    the quantization, and write a whole model a round. On a CPU an adapter of its own is five times slower.
    """
    return quantization != "none" or on_gpu()


def is_checkpoint(adapter: Path | None) -> bool:
    """Whether an adapter is a checkpoint of all weights, not a LoRA adapter."""
    return adapter is not None and (adapter / "config.json").is_file()


def laid_on(base: Path, adapter: Path | None) -> tuple[Path, Path | None]:
    """Return the model folder that a policy's weights are read from, and the LoRA adapter on it, if any."""
    return (base, adapter) if adapter is None or not is_checkpoint(adapter) else (adapter, None)


def require_continuable(adapter: Path | None, training: TrainingBase) -> None:
    """Refuse to put a LoRA adapter on a policy of which all weights were trained.

    Raises:
        UserError: the policy would be three things: a base, its trained weights, and an adapter on those.
    """
    beside = [training.start]
    if isinstance(training, ReferenceSettings) and not training.packed:
        beside.append(training.reference)
    if is_checkpoint(adapter) and training.lora is not None and "previous" in beside:
        raise UserError(
            "All weights of the previous policy were trained, and an adapter is not laid on those: set training.lora "
            "to null and training.packed to true, or training.start and training.reference to base."
        )


@dataclass(frozen=True)
class Weights:
    """A base, and at most one adapter on it.

    Attributes:
        base: model folder.
        adapter: what was trained on it; None is the base itself.
        merged: where the two are kept as one checkpoint, for engines that serve that; it is a cache.
        base_files, adapter_digest: what the files of both must have as digests, each time that they are read; None
            where nothing says it.
    """

    base: Path
    adapter: Path | None
    merged: Path
    base_files: str | None = None
    adapter_digest: str | None = None

    def served(self, beside: bool) -> tuple[Path, Path | None]:
        """Return the model folder and the adapter that are loaded, merged into one where that is asked for.

        Args:
            beside: of ``serves_beside``: one rule for what is served and what drift is measured on.

        Raises:
            UserError: a file of theirs was altered since it was made.
        """
        self.require_unaltered()
        if beside:
            return laid_on(self.base, self.adapter)
        self.merged.parent.mkdir(parents=True, exist_ok=True)
        return merge(self.base, self.adapter, self.merged), None

    def require_unaltered(self) -> None:
        """Hold the files of both to their digests.

        Raises:
            UserError: one was altered, or holds pickles.
        """
        for folder, digest in ((self.base, self.base_files), (self.adapter, self.adapter_digest)):
            if folder is not None and folder.is_dir():
                refuse_pickles(folder)
                if digest is not None:
                    require_files(folder, digest)

    def load(self, quantization: Quantization) -> Any:
        """Return the served model, ready to answer.

        Raises:
            UserError: this machine cannot run the quantization.
        """
        import torch
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        checkpoint, adapter = self.served(serves_beside(quantization))
        model = AutoModelForCausalLM.from_pretrained(
            checkpoint,
            # On a CPU float32 is exact, and without matrix units no slower than bfloat16.
            dtype=torch.bfloat16 if on_gpu() else torch.float32,
            device_map="cuda" if on_gpu() else "cpu",
            quantization_config=quantization_config(quantization),
            **LOADING_WEIGHTS,
        )
        return (PeftModel.from_pretrained(model, adapter) if adapter else model).eval()


def policy_digest(base: str, adapter: str | None) -> str:
    """Name a policy by base and adapter; a base alone is named by its own digest."""
    return base if adapter is None else made_of("policy", base, adapter)


def made_of(kind: str, model: str, adapter: str) -> str:
    """Return the digest of a model with an adapter: as short as both where an earlier release named both."""
    name = content_id if len(model) == len(adapter) == ID_HEX_DIGITS else full_id
    return name(kind, model, adapter)


def load_merged(base: Path, adapter: Path | None) -> Any:
    """Return a policy as one model, in bfloat16 on the CPU.

    The sum is made in float32: in bfloat16 small changes of a weight would be lost.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder, lora = laid_on(base, adapter)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **LOADING_WEIGHTS)
    if lora is not None:
        model = PeftModel.from_pretrained(model, lora).merge_and_unload()
    return model.to(torch.bfloat16)


def merge(base: Path, adapter: Path | None, out: Path) -> Path:
    """Write a policy's checkpoint to ``out`` unless it is there; without an adapter the base serves.

    Its digest is kept beside it: a checkpoint that lies there without one is made anew.

    Returns:
        The folder to serve. It is whole or absent: a partial one is never named ``out``.

    Raises:
        UserError: one that is there was altered since it was made.
    """
    if adapter is None:
        return base
    kept = out.with_suffix(".sha256")
    if out.is_dir() and kept.is_file():
        require_files(out, kept.read_text(), f"remove it and {kept.name}, and it is merged again")
        return out
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    write_merged(base, adapter, partial)
    shutil.rmtree(out, ignore_errors=True)
    kept.write_text(model_digest(partial))
    partial.rename(out)
    return out


def write_merged(base: Path, adapter: Path, folder: Path) -> None:
    """Write base and adapter as one checkpoint into a folder that is not there yet."""
    folder.mkdir(parents=True)
    model = load_merged(base, adapter)
    model.save_pretrained(folder)
    for path in base.iterdir():
        if path.is_file() and not (folder / path.name).exists() and not is_weights(path):
            shutil.copyfile(path, folder / path.name)


def is_weights(path: Path) -> bool:
    """Tell whether a file of a model folder holds weights, or says which file holds them."""
    return path.suffix in WEIGHT_SUFFIXES or path.name.endswith(".index.json")
