"""Merged checkpoints: a base with an adapter folded in, as CPU engines serve them fastest."""

import shutil
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM


def load_merged(base: Path, adapter: Path | None) -> Any:
    """Return the base with the adapter folded in, in bfloat16 on the CPU.

    The sum is made in float32: in bfloat16 small changes of a weight would be lost.
    """
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return model.to(torch.bfloat16)


def merge(base: Path, adapter: Path | None, out: Path) -> Path:
    """Write a merged checkpoint to ``out`` unless it is there; without an adapter the base serves.

    Returns:
        The folder to serve. It is whole or absent: a partial one is never named ``out``.
    """
    if adapter is None:
        return base
    if out.is_dir():
        return out
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    model = load_merged(base, adapter)
    model.save_pretrained(partial)
    for path in base.iterdir():
        if not path.name.startswith("model") and path.name not in {"config.json", "generation_config.json"}:
            shutil.copy2(path, partial / path.name)
    partial.rename(out)
    return out
