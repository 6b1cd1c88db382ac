"""How files of models are read: no code of theirs is run."""

from pathlib import Path
from typing import Any

from josh_pipeline.core.errors import UserError

LOADING: dict[str, Any] = {"trust_remote_code": False}
"""How every file of a model folder is read: none of its code is run, and nobody is asked whether to."""
LOADING_WEIGHTS: dict[str, Any] = LOADING | {"use_safetensors": True}
"""And its weights: a pickle is a program, which runs when it is read."""
PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})


def refuse_pickles(folder: Path) -> None:
    """Refuse a folder of a model or an adapter whose weights are no safetensors.

    Raises:
        UserError: its weights are pickles alone.
    """
    files = {path.suffix: path.name for path in folder.iterdir()}
    if ".safetensors" not in files and (pickles := files.keys() & PICKLES):
        raise UserError(
            f"The weights in {folder} are pickles ({files[min(pickles)]}), which run code when they are read: save the "
            "model with save_pretrained, which writes safetensors, or choose another --model."
        )
