"""Training of all weights: a checkpoint takes the place that an adapter has, from the training to the export."""

from pathlib import Path

import pytest
import torch
from finished_home import copied, finished_home, run_iteration, run_stages
from safetensors.torch import load_file
from tampering import audited, said
from test_training import LORA, dpo_rows, kto_rows, sft_row, trained
from tiny_loop import play_with
from tiny_model import tiny_model
from transformers import AutoModelForCausalLM

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.evaluation.drift import measure_drift
from josh_pipeline.harvest.rows import Row
from josh_pipeline.policies.weights import Weights, laid_on, load_merged
from josh_pipeline.report.export_model import export_model
from josh_pipeline.settings import load_settings
from josh_pipeline.settings.training import DpoSettings, KtoSettings, SftSettings, TrainingBase
from josh_pipeline.stages.policy import policy_of
from josh_pipeline.store.gc import find_waste, remove
from josh_pipeline.store.home import Home

SFT = SftSettings(epochs=2, learning_rate=1e-3, lora=None, processes=0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


def rows(number: int = 4) -> list[Row]:
    return [sft_row(one) for one in range(number)]


@pytest.mark.parametrize(
    ("given", "settings"),
    [
        (rows(), SFT),
        (rows(), SFT.model_copy(update={"packed": False})),
        (kto_rows(4), KtoSettings(epochs=1, learning_rate=1e-3, lora=None, processes=0, warmup=0)),
        (dpo_rows(4), DpoSettings(epochs=1, learning_rate=1e-3, lora=None, processes=0, warmup=0)),
    ],
    ids=["sft", "plain sft", "kto", "dpo"],
)
def test_every_weight_is_trained_and_kept_in_float32_and_equal_seeds_make_equal_files(
    base: Path, tmp_path: Path, given: list[Row], settings: TrainingBase
):
    first, again = (trained(base, given, settings, tmp_path / name) for name in ("first", "again"))
    assert first.digest == again.digest
    assert sorted(path.name for path in first.adapter.iterdir()) == ["config.json", "model.safetensors"]
    before, after = (load_file(folder / "model.safetensors") for folder in (base, first.adapter))
    assert before.keys() == after.keys()
    assert {weight.dtype for weight in after.values()} == {torch.float32}
    assert all(not torch.equal(before[name].float(), weight) for name, weight in after.items())
    assert str(tmp_path) not in (first.adapter / "config.json").read_text()


def test_a_round_goes_on_from_the_very_weights_that_the_last_one_left_or_from_a_merged_adapter(
    base: Path, tmp_path: Path
):
    still = SFT.model_copy(update={"learning_rate": 1e-30})
    for start in (SFT, SFT.model_copy(update={"lora": LORA})):
        left = trained(base, rows(), start, tmp_path / "left").adapter
        after = trained(base, rows(), still, tmp_path / "after", adapter=left).adapter
        anew = still.model_copy(update={"start": "base"})
        fresh = trained(base, rows(), anew, tmp_path / "fresh", adapter=left).adapter
        folder, lora = laid_on(base, left)
        if lora is None:
            wanted, found = (load_file(one / "model.safetensors") for one in (folder, after))
            assert all(torch.equal(wanted[name], found[name]) for name in wanted), "nothing was rounded"
        prompt = torch.tensor([[5, 6, 7, 8]])
        torch.testing.assert_close(load_merged(base, after)(prompt).logits, load_merged(base, left)(prompt).logits)
        torch.testing.assert_close(load_merged(base, fresh)(prompt).logits, load_merged(base, None)(prompt).logits)


@pytest.mark.parametrize("reference", ["base", "previous"])
@pytest.mark.parametrize("start", ["base", "previous"])
def test_the_reference_is_scored_before_the_training(base: Path, tmp_path: Path, start: str, reference: str):
    left = trained(base, rows(), SFT, tmp_path / "left").adapter
    values = {"epochs": 1, "learning_rate": 1e-9, "lora": None, "processes": 0, "warmup": 0}
    settings = KtoSettings.model_validate(values | {"start": start, "reference": reference})
    found = trained(base, kto_rows(4), settings, tmp_path / "after", adapter=left)
    reward = found.curve[0].get("rewards/chosen", 0.0)
    assert (abs(reward) > 1e-5) == (start != reference)


def test_an_adapter_may_be_held_to_a_previous_policy_of_which_all_weights_were_trained(base: Path, tmp_path: Path):
    left = trained(base, rows(), SFT, tmp_path / "left").adapter
    values = {"epochs": 1, "learning_rate": 1e-9, "lora": LORA, "processes": 0, "warmup": 0}
    settings = KtoSettings.model_validate(values | {"start": "base", "reference": "previous"})
    found = trained(base, kto_rows(4), settings, tmp_path / "after", adapter=left)
    assert abs(found.curve[0].get("rewards/chosen", 0.0)) > 1e-5


@pytest.mark.parametrize("beside", [True, False])
def test_what_is_served_and_what_drift_is_measured_on_is_the_checkpoint(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: bool
):
    adapter = trained(base, rows(), SFT, tmp_path / "left").adapter
    monkeypatch.setattr("josh_pipeline.policies.weights.serves_beside", lambda quantization: beside)
    weights = Weights(base, adapter, tmp_path / "merged" / "policy")
    assert weights.served(beside) == (adapter if beside else weights.merged, None)
    prompt = torch.tensor([[5, 6, 7, 8]])
    wanted = AutoModelForCausalLM.from_pretrained(adapter, dtype=torch.bfloat16).float()
    served = weights.load("none").to(torch.bfloat16).float()
    torch.testing.assert_close(served(prompt).logits, wanted(prompt).logits)
    assert measure_drift(weights, base, SilentProgress()).mean > 0
    assert measure_drift(Weights(base, None, base), base, SilentProgress()).mean == 0


def test_what_makes_no_sense_is_one_sentence_before_anything_starts(base: Path, tmp_path: Path):
    with pytest.raises(ValueError, match=r"second model: set training\.packed to true"):
        KtoSettings(lora=None, packed=False, sft_weight=0)
    with pytest.raises(UserError, match=r"training\.lora\.alpah: .*did you mean alpha"):
        load_settings("quickstart", {"training": {"lora": {"alpah": 4}}})
    with pytest.raises(UserError, match="weights in 4 bits cannot be trained"):
        load_settings("quickstart", {"training": {"lora": None}, "policy": {"quantization": "nf4"}})
    left = trained(base, rows(), SFT, tmp_path / "left").adapter
    with pytest.raises(UserError, match=r"set training\.lora to null"):
        trained(base, rows(), SFT.model_copy(update={"lora": LORA}), tmp_path / "next", adapter=left)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return finished_home(tmp_path_factory.mktemp("finished"), rounds=1)


@pytest.fixture
def home(finished: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home whose second round trained all weights, on the adapter of the first."""
    play_with(monkeypatch, lambda digest: 0.8)
    home = copied(finished, tmp_path)
    settings = home.settings("", {"training": {"lora": None, "learning_rate": 1e-4}})
    home.remember_settings(settings)
    run_iteration(home, settings, "002", "run-2")
    return home


def test_a_whole_round_is_trained_evaluated_promoted_audited_and_exported(home: Home, tmp_path: Path):
    run_stages(home, home.settings(), "run-3", "003", "policy")
    policy = policy_of(home.warehouse(), "003")
    assert (policy.kind, policy_of(home.warehouse(), "002").kind) == ("weights", "adapter")
    assert not said(audited(home))
    remove(home, find_waste(home))
    made = export_model(home, "latest", tmp_path / "model")
    assert made.base is None and not (made.folder / "adapter").exists()
    exported = load_file(made.folder / "model.safetensors")
    stored = load_file(home.absolute(str(policy.adapter_path)) / "model.safetensors")
    assert all(torch.equal(exported[name], weight.to(torch.bfloat16)) for name, weight in stored.items())
    assert f"all weights as trained, `{policy.adapter_digest}`" in (made.folder / "README.md").read_text()


def test_one_weight_that_was_altered_is_named(home: Home):
    (row,) = home.warehouse().rows("SELECT adapter_path FROM current_trainings WHERE iteration = '002'")
    path = home.absolute(row["adapter_path"]) / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert "trainings" in said(audited(home))


def test_the_next_round_cannot_lay_an_adapter_on_it_and_says_so_at_its_first_step(home: Home):
    settings = home.settings("", {"training": {"lora": {"r": 2, "alpha": 4}}})
    with pytest.raises(UserError, match=r"or training\.start and training\.reference to base"):
        run_stages(home, settings, "run-3", "003", "policy")
    anew = settings.model_copy(update={"training": settings.training.model_copy(update={"start": "base"})})
    run_stages(home, anew, "run-4", "003", "policy")
