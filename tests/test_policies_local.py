"""Engines on this machine: the same prompts, seeds and limits through transformers and vLLM."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_model import tiny_model
from transformers import AutoModelForCausalLM

from josh_pipeline.core.errors import RolloutError, UserError
from josh_pipeline.core.messages import Message, ToolCall
from josh_pipeline.core.policy import Completion, Request, Sampling
from josh_pipeline.policies.chat import ChatRenderer, structured_calls
from josh_pipeline.policies.models import foundation, model_digest
from josh_pipeline.policies.open import open_policy
from josh_pipeline.policies.vllm_engine import VllmEngine, vllm_installed
from josh_pipeline.policies.weights import Weights
from josh_pipeline.settings import PolicySettings

needs_vllm = pytest.mark.skipif(not vllm_installed(), reason="vLLM is not installed")
TOOLS = ({"type": "function", "function": {"name": "search_hotel"}},)
TALK = (
    Message("system", "Help."),
    Message("user", "a hotel in the north"),
    Message("assistant", "", (ToolCall("search_hotel", {"area": "north"}),)),
    Message("tool", '{"matches": 0}'),
    Message("assistant", "Nothing there."),
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield foundation("smollm2", tmp_path_factory.mktemp("models"))


def ask(folder: Path, backend: str, requests: list[Request], max_model_tokens: int = 512) -> list[Completion]:
    async def run() -> list[Completion]:
        settings = PolicySettings(backend=backend, max_model_tokens=max_model_tokens)  # type: ignore[arg-type]
        weights = Weights(folder, None, folder / "merged")
        async with open_policy(settings, weights, "digest", 8) as policy:
            return list(await asyncio.gather(*(policy.complete(request) for request in requests)))

    return asyncio.run(run())


def asked(text: str, temperature: float, seed: int = 0, max_tokens: int = 12) -> Request:
    return Request((Message("user", text),), (), Sampling(temperature, max_tokens), seed)


def test_what_is_sampled_for_a_request_does_not_depend_on_its_neighbours(tiny: Path):
    wanted = asked("hello", 1.0, seed=3)
    alone = ask(tiny, "transformers", [wanted])[0]
    crowd = ask(tiny, "transformers", [asked("something longer than that", 1.0, 5), wanted, asked("x", 0.0)])[1]
    assert alone.token_ids == crowd.token_ids


def test_prompts_of_different_lengths_with_a_shared_prefix_sample_as_they_do_alone(tiny: Path):
    requests = [asked("abcabcabc" + tail, 0.0) for tail in ("", "d", "defghijk", "abc")]
    together = ask(tiny, "transformers", requests)
    alone = [ask(tiny, "transformers", [request])[0] for request in requests]
    assert [c.token_ids for c in together] == [c.token_ids for c in alone]
    assert together[1].cached_tokens > 0


@pytest.mark.parametrize("backend", ["transformers", pytest.param("vllm", marks=needs_vllm)])
def test_tokens_come_with_the_log_probabilities_that_they_were_sampled_with(backend: str, smollm2: Path):
    heats = (0.7, 1.3)
    requests = [asked("Name a fruit.", heat, seed=3) for heat in heats]
    cut = Request(requests[0].messages, (), Sampling(0.7, 12, top_p=0.9), 3)
    *made, narrow, greedy = ask(smollm2, backend, [*requests, cut, asked("Name a fruit.", 0.0)])
    assert (narrow.logprobs, narrow.temperature, greedy.logprobs, greedy.temperature) == (None,) * 4
    model = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32)
    for one, heat in zip(made, heats, strict=True):
        assert one.token_ids is not None and one.logprobs is not None and one.temperature == heat
        prompt = ChatRenderer(smollm2).prompt_ids(requests[0].messages, ())
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *one.token_ids]])).logits[0, len(prompt) - 1 : -1] / heat
        wanted = logits.log_softmax(-1)[range(len(one.token_ids)), list(one.token_ids)]
        # vLLM's weights and activations are in bfloat16.
        near = 1e-3 if backend == "transformers" else 0.3
        torch.testing.assert_close(torch.tensor(one.logprobs), wanted, rtol=0, atol=near)
        assert all(round(logprob, 4) == logprob for logprob in one.logprobs)


def test_a_prompt_that_leaves_no_room_is_a_context_length_error(tiny: Path):
    with pytest.raises(RolloutError) as failure:
        ask(tiny, "transformers", [asked("x" * 600, 0.0)])
    assert failure.value.kind == "context_length"


def test_new_tokens_never_exceed_what_the_context_has_left(tiny: Path):
    made = ask(tiny, "transformers", [asked("x" * 100, 1.0, max_tokens=400)], max_model_tokens=160)[0]
    assert made.prompt_tokens + made.completion_tokens <= 160


def test_the_bundled_models_template_renders_tools_and_calls(smollm2: Path):
    text = ChatRenderer(smollm2).text(TALK, TOOLS, ask=True)
    assert '"name": "search_hotel"}}' in text.split("<|im_end|>")[0]
    assert '<tool_call>\n{"name": "search_hotel", "arguments": {"area": "north"}}\n</tool_call>' in text
    assert text.endswith("<|im_start|>assistant\n")


def test_a_rendered_call_is_read_back_as_the_same_call(smollm2: Path):
    turn = ChatRenderer(smollm2).text(TALK[:3], TOOLS, ask=False).split("<|im_start|>assistant\n")[1]
    assert structured_calls(turn.removesuffix("<|im_end|>\n")) == ("", TALK[2].tool_calls)


def test_loss_falls_on_the_assistants_tokens_and_their_end_alone(smollm2: Path):
    renderer = ChatRenderer(smollm2)
    prompt, answer = renderer.answer(TALK, TOOLS)
    assert renderer.decode(answer) == "Nothing there." and answer[-1] in renderer.stop_ids
    assert prompt == renderer.prompt_ids(TALK[:4], TOOLS)


def test_each_prompt_goes_on_from_the_answer_before_it(smollm2: Path):
    renderer = ChatRenderer(smollm2)
    prompt, answer = renderer.answer(TALK[:3], TOOLS)
    before = prompt + answer
    assert renderer.prompt_ids(TALK[:4], TOOLS)[: len(before)] == before


def test_the_bundled_model_is_exported_once_and_pads_with_another_token_than_its_stop(smollm2: Path):
    before = (smollm2 / "model.safetensors").stat().st_mtime_ns
    assert foundation("smollm2", smollm2.parent) == smollm2
    assert (smollm2 / "model.safetensors").stat().st_mtime_ns == before
    renderer = ChatRenderer(smollm2)
    assert renderer.tokenizer.pad_token_id not in renderer.stop_ids


def test_a_models_digest_changes_with_one_byte_of_its_weights(tmp_path: Path):
    folder = tiny_model(tmp_path / "m")
    before = model_digest(folder)
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert model_digest(folder) != before


def test_a_model_that_does_not_exist_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="neither 'smollm2', nor a folder"):
        foundation("nobody/nothing", tmp_path)


@needs_vllm
def test_vllm_and_transformers_agree_greedily_and_seeds_repeat(smollm2: Path):
    requests = [asked("Where is Paris?", 0.0), *(asked("Name a fruit.", 0.8, seed) for seed in (1, 1, 2))]
    served = ask(smollm2, "vllm", requests)
    assert served[0].text == ask(smollm2, "transformers", requests[:1])[0].text
    assert served[1].token_ids == served[2].token_ids
    assert served[0].prompt_digest is not None


@needs_vllm
def test_an_adapter_beside_its_base_answers_as_the_two_merged(smollm2: Path, tmp_path: Path):
    torch.manual_seed(0)
    config = LoraConfig(r=8, lora_alpha=48, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32), config)
    adapted.save_pretrained(tmp_path / "adapter")
    weights = Weights(smollm2, tmp_path / "adapter", tmp_path / "merged")

    def first_tokens(weights: Weights, beside: bool) -> list[tuple[int, ...]]:
        async def run() -> list[tuple[int, ...]]:
            engine = await VllmEngine.start(
                weights, stop_ids=(2,), max_model_tokens=256, in_flight=40, quantization="none", beside=beside
            )
            prompts = [list(range(first, first + 20)) for first in range(50, 2050, 50)]
            try:
                answers = (engine.generate(prompt, Sampling(0.0, 1), 0) for prompt in prompts)
                return [answer.token_ids for answer in await asyncio.gather(*answers)]
            finally:
                await engine.close()

        return asyncio.run(run())

    def agreement(one: list[tuple[int, ...]], other: list[tuple[int, ...]]) -> int:
        return sum(mine == theirs for mine, theirs in zip(one, other, strict=True))

    apart = first_tokens(weights, beside=True)
    assert not weights.merged.exists()
    # In bfloat16 the two round differently, so that near ties of 40 fall either way.
    assert agreement(apart, first_tokens(weights, beside=False)) > 30
    assert agreement(apart, first_tokens(Weights(smollm2, None, weights.merged), beside=True)) < 10


@needs_vllm
def test_no_engine_outlives_a_killed_parent(smollm2: Path, tmp_path: Path):
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from josh_pipeline.policies.open import open_policy\n"
        "from josh_pipeline.policies.weights import Weights\n"
        "from josh_pipeline.settings import PolicySettings\n"
        "async def run():\n"
        "    weights = Weights(Path(sys.argv[1]), None, Path('unused'))\n"
        "    async with open_policy(PolicySettings(backend='vllm'), weights, 'd', 4) as policy:\n"
        "        print(policy._engine._process.pid, flush=True)\n"
        "        await asyncio.sleep(600)\n"
        "asyncio.run(run())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script, str(smollm2)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    engine = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 20
    while _alive(engine) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _alive(engine)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat").read_text() if Path("/proc").is_dir() else ""
    return ") Z" not in status
