"""A policy as a folder that transformers and vLLM load: the merged checkpoint, and the adapter with its base."""

import json
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from josh_pipeline.core.errors import UserError
from josh_pipeline.policies.models import hub_revision, pad_id, remedy
from josh_pipeline.policies.weights import Weights, is_checkpoint, policy_digest, write_merged
from josh_pipeline.report.lines import policy_name
from josh_pipeline.report.model_card import model_card
from josh_pipeline.stages.benchmark import made_policy
from josh_pipeline.stages.playing import weights
from josh_pipeline.stages.policy import PolicyRow
from josh_pipeline.store.home import Home


@dataclass(frozen=True)
class ExportedModel:
    """What was written.

    Attributes:
        name: of the policy, for people.
        base: what the adapter's config names as its base: an id of the hub, or a folder; None where there is
            no adapter: nothing was trained, or all weights were.
    """

    folder: Path
    name: str
    policy: PolicyRow
    base: str | None


def export_command(home: Home, digest: str) -> str:
    """Return the command line that exports a policy of a home."""
    return f"josh export --model {digest} --out model --home {shlex.quote(str(home.root))}"


def export_model(home: Home, called: str, out: Path) -> ExportedModel:
    """Write a policy's model folder. It is whole or absent: a partial one is never named ``out``.

    Args:
        called: ``latest`` promotion, an iteration, or the first digits of the policy's digest.
        out: a new folder, or an empty one.

    Raises:
        UserError: there is no such policy, its weights are not here or not those that were trained, or the
            folder holds something or cannot be written.
    """
    # Imported where it is used: it takes a while, and josh iterate shows the command.
    from safetensors import SafetensorError

    out = out.resolve()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} is there already and no empty folder: give another --out.")
    policy = made_policy(home.warehouse(), called)
    if policy is None:
        raise UserError("Nothing has been promoted in this home yet: run josh iterate first.")
    found = trained_weights(home, policy)
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        base = _write(found, partial, out)
        written = ExportedModel(out, policy_name(home.warehouse(), policy.policy_digest), policy, base)
        (partial / "README.md").write_text(model_card(home.warehouse(), policy, written.name, base))
        partial.rename(out)
    except (OSError, SafetensorError) as fault:
        reason = getattr(fault, "strerror", None) or fault
        raise UserError(f"{out} cannot be written ({reason}): make room, or give another --out.") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return written


def trained_weights(home: Home, policy: PolicyRow) -> Weights:
    """Return the files of a policy, held to the digests that they had when they were made.

    Raises:
        UserError: they are at an endpoint, missing, or altered.
    """
    found = weights(home, policy)
    name = f"policy {policy.policy_digest}"
    if found is None:
        raise UserError(f"The weights of {name} are not here to be exported: it is {policy.model}.")
    if policy_digest(policy.base_digest, policy.adapter_digest) != policy.policy_digest:
        raise UserError(f"The digest of {name} is not that of its base with its adapter: run josh audit.")
    for folder in filter(None, (found.base, found.adapter)):
        if not folder.is_dir():
            raise UserError(f"{home.relative(folder)} is missing, and {name} is made of it: {remedy(folder)}.")
    found.require_unaltered()
    return found


def _write(found: Weights, partial: Path, out: Path) -> str | None:
    """Write the files, and return what the adapter's config names as its base."""
    if found.adapter is None:
        _copy(found.base, partial)
        base = None
    else:
        # From the adapter and its base, which have digests; the merged checkpoint that was served has none.
        write_merged(found.base, found.adapter, partial)
        base = None if is_checkpoint(found.adapter) else _write_adapter(found.base, found.adapter, partial, out)
    _write_generation_config(found.base, partial)
    return base


def _write_adapter(base: Path, adapter: Path, partial: Path, out: Path) -> str:
    """Write the adapter with a base that resolves: on the hub, or as a folder of the export."""
    _copy(adapter, partial / "adapter")
    name, revision = hub_revision(base) or (None, None)
    if name is None:
        _copy(base, partial / "base")
        # peft takes a path as it is, from wherever it runs: only an absolute one resolves.
        name = str(out / "base")
    path = partial / "adapter" / "adapter_config.json"
    config = json.loads(path.read_text())
    config |= {"base_model_name_or_path": name, "revision": revision}
    path.write_text(json.dumps(config, indent=2, sort_keys=True))
    return name


def _write_generation_config(base: Path, partial: Path) -> None:
    """Write how the pipeline generates: greedily, to its own stop tokens, without penalties.

    What was published with the base may say otherwise, and servers take their defaults from it.
    """
    from transformers import GenerationConfig

    from josh_pipeline.policies.chat import ChatRenderer

    stops = list(ChatRenderer(base).stop_ids)
    GenerationConfig(do_sample=False, eos_token_id=stops, pad_token_id=pad_id(base)).save_pretrained(partial)


def _copy(folder: Path, to: Path) -> None:
    """Copy the files of a model folder; the hub's cache holds links."""
    to.mkdir()
    for path in folder.iterdir():
        if path.is_file():
            shutil.copy2(path, to / path.name)
