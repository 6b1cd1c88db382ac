"""Models whose tokenizer or chat template does not serve are refused before work starts."""

import asyncio
import json
from pathlib import Path

import pytest
import torch
from tiny_model import TEMPLATE, tiny_model

from josh_pipeline.core.content import content_id
from josh_pipeline.core.errors import RolloutError, UserError
from josh_pipeline.core.messages import Message
from josh_pipeline.core.policy import Completion, Request, Sampling
from josh_pipeline.policies.chat import ChatRenderer, structured_calls
from josh_pipeline.policies.local import LocalPolicy
from josh_pipeline.policies.models import foundation
from josh_pipeline.policies.open import open_policy
from josh_pipeline.policies.transformers_engine import TransformersEngine
from josh_pipeline.policies.weights import Weights
from josh_pipeline.settings import PolicySettings

REFUSES_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('No system role.') }}{% endif %}"
REFUSES_TOOLS = (
    "{% for m in messages %}{% if m.role == 'tool' %}{{ raise_exception('No tools.') }}{% endif %}{% endfor %}"
)
HELLO = Request((Message("user", "hello"),), (), Sampling(0.0, 4), seed=0)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "model")


def with_template(folder: Path, template: str | None) -> Path:
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template)
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as fault:
        foundation(str(folder), folder.parent)
    text = str(fault.value)
    assert text.endswith(".") and "\n" not in text
    return text


def test_a_model_with_a_template_that_renders_every_role_is_taken(tiny: Path) -> None:
    assert foundation(str(tiny), tiny.parent) == tiny


def test_a_model_without_a_chat_template_is_one_sentence(tiny: Path) -> None:
    assert "has no chat template, or no default one: choose a --model" in refusal(with_template(tiny, None))


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (REFUSES_SYSTEM + TEMPLATE, "No system role"),
        (REFUSES_TOOLS + TEMPLATE, "No tools"),
        ("{% if %}", "TemplateSyntaxError"),
        ("{{ messages[0].content + 3 }}", "TypeError"),
    ],
)
def test_a_template_that_refuses_what_agents_say_is_one_sentence(tiny: Path, template: str, reason: str) -> None:
    text = refusal(with_template(tiny, template))
    assert reason in text and "cannot render a conversation of system, user, assistant and tool" in text


def test_a_model_without_a_readable_tokenizer_is_one_sentence(tiny: Path) -> None:
    (tiny / "tokenizer.json").write_text("{")
    assert "cannot be read" in refusal(tiny)


def test_a_template_that_fails_in_the_middle_ends_the_request_alone(tiny: Path) -> None:
    async def run() -> None:
        renderer = ChatRenderer(with_template(tiny, REFUSES_SYSTEM + TEMPLATE))
        engine = transformers(tiny)
        try:
            await LocalPolicy(renderer, engine, "digest", 512).complete(
                Request((Message("system", "s"), *HELLO.messages), (), HELLO.sampling, 0)
            )
        finally:
            await engine.close()

    with pytest.raises(RolloutError, match="No system role") as failure:
        asyncio.run(run())
    assert failure.value.kind == "endpoint"


def transformers(folder: Path) -> TransformersEngine:
    weights = Weights(folder, None, folder / "merged")
    return TransformersEngine(weights, stop_ids=(2,), pad_id=0, max_batch=2, quantization="none")


def test_what_torch_raises_is_a_typed_error_and_the_next_batch_is_answered(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, batches = TransformersEngine._batch, []

    def failing_once(self: TransformersEngine, rows: list) -> list:  # type: ignore[type-arg]
        batches.append(len(rows))
        if len(batches) == 1:
            raise torch.OutOfMemoryError("Tried to allocate 20 GiB.")
        return batch(self, rows)

    monkeypatch.setattr(TransformersEngine, "_batch", failing_once)

    async def run() -> list[Completion | BaseException]:
        settings = PolicySettings(backend="transformers", max_model_tokens=512)
        async with open_policy(settings, Weights(tiny, None, tiny / "merged"), "digest", 2) as policy:
            async with asyncio.timeout(60):
                return await asyncio.gather(*map(policy.complete, [HELLO] * 5), return_exceptions=True)

    made = asyncio.run(run())
    faults = [fault for fault in made if isinstance(fault, RolloutError)]
    assert batches == [2, 2, 1] and len(faults) == 2
    assert {fault.kind for fault in faults} == {"endpoint"}
    assert "OutOfMemoryError: Tried to allocate" in faults[0].message
    assert sum(isinstance(answer, Completion) for answer in made) == 3


@pytest.mark.parametrize("arguments", ['{"a": "\\ud800"}', '{"a": "\ud800"}', '{"\\udfff": 1}', '{"a": NaN}'])
def test_a_written_call_that_cannot_be_stored_is_passed_on_as_text(arguments: str) -> None:
    written = f'{{"name": "search_hotel", "arguments": {arguments}}}'
    _, (call,) = structured_calls(f"<tool_call>{written}</tool_call>")
    assert call.name == "search_hotel"
    assert dict(call.arguments) == {"arguments": written.replace("\ud800", "?")}
    assert content_id([call.name, dict(call.arguments)])
