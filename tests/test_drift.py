"""Drift from the foundation: exact, zero for the foundation itself, larger for what was changed more."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_model import tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from josh_pipeline.core.progress import SilentProgress, TaskState, ThrottledProgress
from josh_pipeline.evaluation.drift import Drift, general_texts, measure_drift, reading_digest, summarised
from josh_pipeline.policies.transformers_engine import TransformersEngine
from josh_pipeline.policies.weights import Quantization, Weights, serves_beside


@pytest.fixture(scope="module")
def foundation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("drift") / "foundation")


def changed(foundation: Path, folder: Path, size: float) -> Path:
    """The foundation with noise on its weights."""
    model = AutoModelForCausalLM.from_pretrained(foundation)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += size * torch.randn(weight.shape, generator=generator)
    model.save_pretrained(folder)
    return folder


def drift(policy: Path, foundation: Path) -> Drift:
    return drift_of(Weights(policy, None, policy), foundation)


def drift_of(policy: Weights, foundation: Path) -> Drift:
    return measure_drift(policy, foundation, ThrottledProgress(lambda snapshot: None, lambda text: None))


def test_the_texts_are_forty_of_six_kinds_and_none_is_of_the_task() -> None:
    texts = general_texts()
    kinds = Counter(text.kind for text in texts)
    assert len(texts) == len({text.prompt for text in texts}) == 40
    assert set(kinds) == {"chat", "facts", "arithmetic", "code", "instructions", "languages"}
    assert min(kinds.values()) >= 5
    words = {word for text in texts for word in f"{text.prompt} {text.answer}".lower().split()}
    assert not words & {"hotel", "restaurant", "attraction", "booking", "reservation", "cambridge"}


def test_the_foundation_has_not_drifted_from_itself(foundation: Path) -> None:
    found = drift(foundation, foundation)
    assert (found.mean, found.low, found.high) == (0.0, 0.0, 0.0)
    # The tiny tokenizer writes a token a byte; each answer ends with one token more.
    assert found.tokens == sum(len(text.answer.encode()) + 1 for text in general_texts())


def test_more_change_is_more_drift_and_equal_weights_give_equal_numbers(foundation: Path, tmp_path: Path) -> None:
    little = drift(changed(foundation, tmp_path / "little", 0.01), foundation)
    much = drift(changed(foundation, tmp_path / "much", 0.1), foundation)
    assert 0 < little.low < little.mean < little.high < much.low
    assert drift(tmp_path / "much", foundation) == much
    assert set(much.by_kind) == {text.kind for text in general_texts()}


def test_the_number_is_the_divergence_of_policy_from_foundation_over_the_answers(
    foundation: Path, tmp_path: Path
) -> None:
    policy = changed(foundation, tmp_path / "policy", 0.05)
    tokenizer = AutoTokenizer.from_pretrained(foundation)
    models = [AutoModelForCausalLM.from_pretrained(folder).eval() for folder in (policy, foundation)]
    values = []
    for text in general_texts():
        asked = f"<|im_start|>user\n{text.prompt}<|im_end|>\n<|im_start|>assistant\n"
        prompt = tokenizer(asked)["input_ids"]
        whole = torch.tensor([prompt + tokenizer(f"{text.answer}<|im_end|>")["input_ids"]])
        with torch.no_grad():
            new, old = (model(whole).logits[0, len(prompt) - 1 : -1].log_softmax(-1) for model in models)
        values.append(torch.nn.functional.kl_div(old, new, reduction="none", log_target=True).sum(-1).mean())
    assert drift(policy, foundation).mean == pytest.approx(float(sum(values) / len(values)), rel=1e-4)


def adapted(foundation: Path) -> Any:
    """The foundation with a random adapter."""
    torch.manual_seed(0)
    lora = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False, lora_alpha=2)
    return get_peft_model(AutoModelForCausalLM.from_pretrained(foundation), lora)


def test_an_adapter_that_is_read_beside_its_base_shows_its_smallest_changes(
    foundation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = adapted(foundation)
    model.save_pretrained(tmp_path / "adapter")
    policy = Weights(foundation, tmp_path / "adapter", tmp_path / "merged")
    merged = drift_of(policy, foundation)
    monkeypatch.setattr("josh_pipeline.policies.weights.serves_beside", lambda quantization: True)
    assert drift_of(policy, foundation).mean == pytest.approx(merged.mean, rel=0.02) != 0

    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight *= 1e-5
    model.save_pretrained(tmp_path / "small")
    small = Weights(foundation, tmp_path / "small", tmp_path / "merged small")
    assert drift_of(small, foundation).mean > 0
    assert not small.merged.exists()


def test_each_text_weighs_the_same_and_each_kind_has_its_mean() -> None:
    found = summarised([1.0, 3.0, 2.0, 2.0], ["chat", "chat", "code", "facts"], tokens=99)
    assert (found.mean, found.texts, found.tokens) == (2.0, 4, 99)
    assert found.by_kind == {"chat": 2.0, "code": 2.0, "facts": 2.0}
    assert 1.0 <= found.low < 2.0 < found.high <= 3.0


def test_progress_counts_the_texts_of_both_models(foundation: Path) -> None:
    seen: list[TaskState] = []
    policy = Weights(foundation, None, foundation)
    measure_drift(policy, foundation, ThrottledProgress(seen.append, lambda text: None))
    assert [(s.task, s.done, s.finished) for s in seen] == [("Drift from the foundation", 80, True)]


@pytest.mark.parametrize(("cuda", "quantization"), [(True, "none"), (False, "nf4"), (True, "nf4")])
def test_on_a_gpu_and_over_quantized_weights_adapters_are_read_beside_their_base(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, quantization: Quantization
) -> None:
    assert not serves_beside("none")
    merged = reading_digest("none")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert serves_beside(quantization)
    assert reading_digest(quantization) != merged


@pytest.mark.parametrize("beside", [True, False])
def test_drift_is_measured_on_the_very_weights_that_are_served(
    foundation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, beside: bool
) -> None:
    adapted(foundation).save_pretrained(tmp_path / "adapter")
    policy = Weights(foundation, tmp_path / "adapter", tmp_path / "merged")
    monkeypatch.setattr("josh_pipeline.policies.weights.serves_beside", lambda quantization: beside)
    loaded = []
    load = Weights.load
    monkeypatch.setattr(Weights, "load", lambda self, how: loaded.append(load(self, how)) or loaded[-1])
    measure_drift(policy, foundation, SilentProgress())
    TransformersEngine(policy, stop_ids=(2,), pad_id=0, max_batch=4, quantization="none")
    _, read, served = loaded
    assert [name for name, _ in read.named_parameters()] == [name for name, _ in served.named_parameters()]
    assert policy.merged.exists() != beside
    assert (policy.served(beside)[1] is not None) == beside
