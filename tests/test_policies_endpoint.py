"""The endpoint client against a real HTTP server on this machine."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from josh_pipeline.dialogue.messages import Message, ToolCall
from josh_pipeline.errors import RolloutError, UserError
from josh_pipeline.policies.endpoint import ATTEMPTS, EndpointPolicy
from josh_pipeline.policies.open import open_policy
from josh_pipeline.policies.policy import Completion, Request, Sampling
from josh_pipeline.settings import PolicySettings

HELLO = Request((Message("user", "hello"),), (), Sampling(0.0, 16), seed=7)
TOOLS = ({"type": "function", "function": {"name": "search_hotel"}},)


def answer(message: dict[str, Any], usage: dict[str, Any] | None = None) -> str:
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage or {}})


@dataclass
class Server:
    """Answers request n with ``reply(n)``: a status, headers and a body."""

    reply: Callable[[int], tuple[int, dict[str, str], str]]
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(
            (int(x.split(":")[1]) for x in head.splitlines() if x.lower().startswith("content-length")), 0
        )
        body = await reader.readexactly(length)
        self.headers.append(head)
        if body:
            self.bodies.append(json.loads(body))
        status, headers, text = self.reply(len(self.headers) - 1)
        extra = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        size = len(text.encode())
        start = f"HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {size}\r\n{extra}\r\n"
        writer.write((start + text).encode())
        await writer.drain()
        writer.close()


def ask(server: Server, request: Request = HELLO) -> Completion:
    async def run() -> Completion:
        listener = await asyncio.start_server(server.connection, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        policy = EndpointPolicy(f"http://127.0.0.1:{port}/v1", "m", 4, first_delay=0.001, request_seconds=5)
        try:
            return await policy.complete(request)
        finally:
            await policy.close()
            listener.close()

    return asyncio.run(run())


def test_text_usage_and_cached_tokens_are_read():
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    server = Server(lambda n: (200, {}, answer({"content": "hi"}, usage)))
    made = ask(server)
    assert (made.text, made.prompt_tokens, made.completion_tokens, made.cached_tokens) == ("hi", 9, 2, 4)
    assert made.token_ids is None and made.prompt_digest is None
    assert server.bodies[0]["seed"] == 7 and server.bodies[0]["max_tokens"] == 16


def test_tool_calls_are_read_and_sent_back_with_matching_ids():
    call = {"id": "x", "function": {"name": "search_hotel", "arguments": '{"area": "north"}'}}
    server = Server(lambda n: (200, {}, answer({"content": None, "tool_calls": [call]})))
    history = (
        Message("user", "a hotel"),
        Message("assistant", "", (ToolCall("search_hotel", {"area": "north"}),)),
        Message("tool", "[]"),
    )
    made = ask(server, Request(history, TOOLS, Sampling(0.0, 16), 0))
    assert made.tool_calls == (ToolCall("search_hotel", {"area": "north"}),)
    sent = server.bodies[0]["messages"]
    assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"]


def test_results_without_api_calls_are_sent_as_the_users_because_servers_refuse_orphans():
    server = Server(lambda n: (200, {}, answer({"content": "ok"})))
    history = (Message("user", "a"), Message("assistant", '{"name": "x"}'), Message("tool", "[]"))
    ask(server, Request(history, (), Sampling(0.0, 16), 0))
    assert [m["role"] for m in server.bodies[0]["messages"]] == ["user", "assistant", "user"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_fault_is_retried_until_it_passes(status: int):
    server = Server(
        lambda n: (status, {"Retry-After": "0"}, "") if n < 2 else (200, {}, answer({"content": "y"}))
    )
    assert ask(server).text == "y"
    assert len(server.bodies) == 3


@pytest.mark.parametrize(
    "body", ["", "<html>", "[]", '{"choices": []}', '{"choices": [{}]}', '{"choices": null}']
)
def test_garbage_ends_in_a_typed_error_after_all_attempts(body: str):
    server = Server(lambda n: (200, {}, body))
    with pytest.raises(RolloutError) as failure:
        ask(server)
    assert failure.value.kind == "endpoint"
    assert len(server.bodies) == ATTEMPTS


def test_a_prompt_that_is_too_long_is_a_context_length_error_and_not_retried():
    server = Server(lambda n: (400, {}, "This model's maximum context length is 2048 tokens"))
    with pytest.raises(RolloutError) as failure:
        ask(server)
    assert failure.value.kind == "context_length"
    assert len(server.bodies) == 1


def test_arguments_that_are_no_object_reach_the_world_as_an_unknown_parameter():
    call = {"function": {"name": "search_hotel", "arguments": "not json"}}
    server = Server(lambda n: (200, {}, answer({"content": None, "tool_calls": [call, "junk"]})))
    assert ask(server).tool_calls == (ToolCall("search_hotel", {"arguments": "not json"}),)


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-1")
    server = Server(lambda n: (200, {}, answer({"content": "y"})))
    ask(server)
    assert "authorization: bearer secret-1" in server.headers[0].lower()


def test_an_endpoint_where_nothing_listens_is_one_sentence_before_any_work():
    async def run() -> None:
        settings = PolicySettings(endpoint="http://127.0.0.1:9/v1", model="m")
        async with open_policy(settings, None, "d", 4):
            raise AssertionError("opened")

    with pytest.raises(UserError, match="Nothing answers"):
        asyncio.run(run())
