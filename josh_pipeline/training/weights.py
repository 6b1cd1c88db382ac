"""The weights that training loads: a frozen base, and the adapter that is trained on it."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from josh_pipeline.policies.quantization import Quantization, quantization_config
from josh_pipeline.settings import LoraSettings

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def load_base(base: Path, quantization: Quantization, attention: str, device: torch.device) -> Any:
    """Load a base in bfloat16.

    Args:
        attention: transformers' name of the attention implementation.
    """
    return AutoModelForCausalLM.from_pretrained(
        base,
        dtype=torch.bfloat16,
        device_map={"": device},
        attn_implementation=attention,
        quantization_config=quantization_config(quantization),
    )


def trainable(model: Any, start: Path | None, lora: LoraSettings, seed: int) -> Any:
    """Put the adapter that is trained on a base, in float32.

    Args:
        start: adapter to go on from; None draws a fresh one with ``seed``.
    """
    if start is not None:
        return _named_base(PeftModel.from_pretrained(model, start, is_trainable=True))
    transformers.set_seed(seed)
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
    """Write the trained adapter alone, so that equal weights give equal files wherever they are made."""
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, selected_adapters=["default"])
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card names local paths
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    # peft writes a set in the order of this process's string hashes, and the base's place on this machine.
    config["target_modules"] = sorted(config["target_modules"])
    config["base_model_name_or_path"] = base.name
    path.write_text(json.dumps(config, indent=2, sort_keys=True))
