"""NF4, the paper's 4-bit weights, through bitsandbytes on a GPU."""

import importlib.util
from typing import Any, Literal

from josh_pipeline.core.errors import UserError

Quantization = Literal["none", "nf4"]


def quantization_config(quantization: Quantization) -> Any:
    """Return what transformers' loaders take, None for plain weights.

    Raises:
        UserError: NF4 is asked for, and bitsandbytes or a GPU is missing.
    """
    require(quantization)
    if quantization == "none":
        return None
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )


def require(quantization: Quantization) -> None:
    """Refuse settings that this machine cannot run, before anything starts.

    Raises:
        UserError: NF4 is asked for, and bitsandbytes or a GPU is missing.
    """
    if quantization == "none":
        return
    import torch

    if importlib.util.find_spec("bitsandbytes") is None or not torch.cuda.is_available():
        raise UserError(
            "policy.quantization nf4 needs a GPU and bitsandbytes: run make gpu on such a machine, "
            "or set policy.quantization to none and training.optimizer to adamw_torch."
        )
