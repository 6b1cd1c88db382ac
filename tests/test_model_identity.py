"""A model's digest is of all its files; what is loaded is held to it, is no pickle, and brings no code that runs."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from finished_home import copied
from safetensors.torch import load_file, save_file
from tiny_model import tiny_model

from josh_pipeline.audit.whole import audit_home
from josh_pipeline.core.content import content_id
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.policies.models import digest_like, foundation, model_digest
from josh_pipeline.policies.weights import Weights, made_of, policy_digest
from josh_pipeline.stages.playing import weights
from josh_pipeline.stages.policy import policy_row
from josh_pipeline.store.home import Home


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def model(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


CHANGES: dict[str, Callable[[Path], object]] = {
    "a pickle beside the weights": lambda folder: (folder / "pytorch_model.bin").write_bytes(b"x"),
    "a text": lambda folder: (folder / "merges.txt").write_text("a b"),
    "code": lambda folder: (folder / "modeling.py").write_text("print()"),
    "a file in a subfolder": lambda folder: (
        (folder / "a/b").mkdir(parents=True),
        (folder / "a/b/c.bin").write_text(""),
    ),
    "the name of a file": lambda folder: (folder / "config.json").rename(folder / "config2.json"),
    "a removed file": lambda folder: (folder / "generation_config.json").unlink(),
    "a hidden file": lambda folder: (folder / ".hidden").write_text("x"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_changed_in_a_folder_changes_its_digest(change: str, model: Path):
    before = model_digest(model)
    assert len(before) == 64 and model_digest(model) == before
    CHANGES[change](model)
    assert model_digest(model) != before


def test_bytes_of_the_same_size_and_date_change_the_digest(model: Path):
    before, path = model_digest(model), model / "config.json"
    at = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(at.st_atime_ns, at.st_mtime_ns))
    assert model_digest(model) != before


def test_what_an_earlier_release_named_is_still_held_to_its_digest(model: Path):
    short = digest_like(model, "0" * 16)
    assert len(short) == 16 and digest_like(model, short) == short
    (model / "config.json").write_text("{}")
    assert digest_like(model, short) != short
    assert policy_digest("a" * 16, "b" * 16) == content_id("policy", "a" * 16, "b" * 16)
    assert len(policy_digest("a" * 16, "b" * 64)) == len(made_of("base", "a" * 64, "b" * 64)) == 64


def test_weights_that_are_pickles_are_refused_with_what_to_do(model: Path, tmp_path: Path):
    (model / "model.safetensors").unlink()
    torch.save({}, model / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"are pickles \(pytorch_model.bin\).*save_pretrained"):
        foundation(str(model), tmp_path)


def test_a_model_with_code_of_its_own_is_refused_and_nobody_is_asked(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = json.loads((model / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "code.Mine"}}
    (model / "config.json").write_text(json.dumps(config))
    (model / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: pass\n")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    with pytest.raises(UserError, match=r"code of its own, which is never run here|cannot be read"):
        foundation(str(model), tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def home(finished: Home, tmp_path: Path) -> Home:
    return copied(finished, tmp_path)


def promoted(home: Home) -> Weights:
    row = home.warehouse().rows("SELECT * FROM current_policies WHERE iteration = '002'")[0]
    found = weights(home, policy_row(row))
    assert found is not None and found.adapter is not None
    return found


def zero(path: Path) -> None:
    save_file({name: torch.zeros_like(values) for name, values in load_file(path).items()}, path, {"format": "pt"})


def test_a_merged_checkpoint_that_was_altered_is_named_before_it_is_served(home: Home):
    found = promoted(home)
    folder, _ = found.served(beside=False)
    assert found.served(beside=False) == (folder, None)
    zero(folder / "model.safetensors")
    with pytest.raises(UserError, match=rf"The files in {folder} are not those .* remove it and {folder.name}.sha256"):
        found.load("none")
    shutil.rmtree(folder)
    folder.with_suffix(".sha256").unlink()
    assert promoted(home).served(beside=False) == (folder, None)


def test_a_merged_checkpoint_without_a_digest_is_made_anew(home: Home):
    folder, _ = promoted(home).served(beside=False)
    right = model_digest(folder)
    zero(folder / "model.safetensors")
    folder.with_suffix(".sha256").unlink()
    promoted(home).served(beside=False)
    assert model_digest(folder) == right


@pytest.mark.parametrize("beside", [True, False])
def test_an_adapter_or_a_base_that_was_altered_is_named_before_it_is_served(home: Home, beside: bool):
    found = promoted(home)
    assert found.adapter is not None
    zero(found.adapter / "adapter_model.safetensors")
    with pytest.raises(UserError, match=f"The files in {found.adapter} are not those"):
        found.served(beside)


def test_an_audit_names_a_file_that_was_added_to_an_adapter(home: Home):
    assert audit_home(home, None, SilentProgress())[0].sound
    adapter = promoted(home).adapter
    assert adapter is not None
    (adapter / "adapter_model.bin").write_bytes(b"x")
    audit = audit_home(home, None, SilentProgress())[0]
    assert any("one was altered" in finding.message for finding in audit.of("broken"))
