"""Tool calls of local models that use the chat API's own format are read as each model writes them."""

import asyncio
from pathlib import Path

import pytest
from chat_templates import template_folder
from test_tokens import COMPACT, NATIVE, NATIVE_TOO, SCHEMAS

from josh_pipeline.core.messages import Message, ToolCall
from josh_pipeline.core.policy import Completion, Request, Sampling
from josh_pipeline.policies.chat import ChatRenderer
from josh_pipeline.policies.local import Generated, LocalPolicy

WITHOUT_SCHEMA = {"diffusion_gemma", "muse_glimmer"}
"""Neither their templates nor TRL say how their replies are parsed."""


class Saying:
    """An engine that samples what it is given."""

    def __init__(self, answer: list[int], finish_reason: str = "stop") -> None:
        self._generated = Generated(tuple(answer), finish_reason, 0, None)

    async def generate(self, prompt: list[int], sampling: Sampling, seed: int) -> Generated:
        return self._generated

    async def close(self) -> None:
        """Nothing is held."""


def completed(renderer: ChatRenderer, answer: list[int], finish_reason: str = "stop") -> Completion:
    request = Request(NATIVE[:2], SCHEMAS, Sampling(0.0, 64), 0)
    return asyncio.run(LocalPolicy(renderer, Saying(answer, finish_reason), "digest", 8192).complete(request))


@pytest.mark.parametrize("name", sorted({*NATIVE_TOO} - WITHOUT_SCHEMA))
def test_a_call_and_a_sentence_are_read_as_the_template_writes_them(name: str, tmp_path: Path):
    renderer = ChatRenderer(template_folder(tmp_path, name))
    _, call = renderer.answer(NATIVE[:3], SCHEMAS)
    made = completed(renderer, call)
    assert (made.text, made.tool_calls, made.finish_reason) == ("", NATIVE[2].tool_calls, "tool_calls")
    assert made.token_ids == tuple(call)
    _, speech = renderer.answer((*NATIVE[:2], COMPACT[4]), SCHEMAS)
    made = completed(renderer, speech)
    assert (made.text, made.tool_calls, made.finish_reason) == ("There is none.", (), "stop")


def test_a_number_is_a_number_where_the_tools_schema_says_so(tmp_path: Path):
    renderer = ChatRenderer(template_folder(tmp_path, "qwen3_5_think"))
    asked = {"type": "object", "properties": {"people": {"type": "integer"}, "phone": {"type": "string"}}}
    tools = ({"type": "function", "function": {"name": "book", "description": "", "parameters": asked}},)
    call = ToolCall("book", {"people": 2, "phone": "0123"})
    prompt, answer = renderer.answer((*NATIVE[:2], Message("assistant", "", (call,))), tools)
    assert renderer.reply(prompt, answer, tools) == ("", (call,))


def test_a_call_that_the_token_limit_cut_is_known_as_cut(tmp_path: Path):
    renderer = ChatRenderer(template_folder(tmp_path, "qwen3_5_think"))
    _, answer = renderer.answer(NATIVE[:3], SCHEMAS)
    assert completed(renderer, answer[: len(answer) // 2], "length").finish_reason == "length"


def test_what_a_model_wrote_wrongly_is_text(tmp_path: Path):
    renderer = ChatRenderer(template_folder(tmp_path, "qwen3"))
    wrong = '<tool_call>\n{"name": "find_room", "arguments": {\n</tool_call>'
    made = completed(renderer, [*renderer.tokenizer(wrong)["input_ids"], renderer.stop_ids[0]])
    assert (made.text, made.tool_calls) == (wrong, ())
