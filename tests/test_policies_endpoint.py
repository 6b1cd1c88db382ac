"""The endpoint client against a real HTTP server on this machine."""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from endpoint_server import HELLO, TOOLS, Dripping, Server, answer, ask, ask_all
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from josh_pipeline.core.errors import RolloutError, UserError
from josh_pipeline.core.messages import Message, ToolCall
from josh_pipeline.core.policy import Completion, Request, Sampling
from josh_pipeline.policies.endpoint import ATTEMPTS, EndpointPolicy, read_completion
from josh_pipeline.policies.open import open_policy
from josh_pipeline.settings import PolicySettings


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


ORPHAN = Request(
    (Message("user", "a"), Message("assistant", '{"name": "x"}'), Message("tool", "[]")), (), Sampling(0.0, 16), 0
)
"""A text format's request: a result that follows no call of the API."""


def roles(server: Server) -> list[list[str]]:
    return [[message["role"] for message in body["messages"]] for body in server.bodies]


def test_a_text_formats_results_are_a_tools_as_the_template_that_it_was_trained_through_renders_them():
    server = Server(lambda n: (200, {}, answer({"content": "ok"})))
    ask(server, ORPHAN)
    assert roles(server) == [["user", "assistant", "tool"]]


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_refuses_results_without_a_call_gets_them_as_the_users_from_then_on(status: int):
    def reply(n: int) -> tuple[int, dict[str, str], str]:
        refused = roles(server)[-1][-1] == "tool"
        return (status, {}, "must be a response to a preceding message") if refused else (
            200, {}, answer({"content": "ok"})
        )  # fmt: skip

    server = Server(reply)
    assert [one.text for one in ask_all(server, [ORPHAN, ORPHAN])] == ["ok", "ok"]
    assert [sent[-1] for sent in roles(server)] == ["tool", "user", "user"]


def test_a_request_that_is_refused_either_way_fails_with_what_the_server_said():
    server = Server(lambda n: (400, {}, "no such model"))
    with pytest.raises(RolloutError, match="HTTP 400: no such model"):
        ask(server, ORPHAN)
    assert len(server.bodies) == 2


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_fault_is_retried_until_it_passes(status: int):
    server = Server(lambda n: (status, {"Retry-After": "0"}, "") if n < 2 else (200, {}, answer({"content": "y"})))
    assert ask(server).text == "y"
    assert len(server.bodies) == 3


def in_two_seconds() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)


@pytest.mark.parametrize(("header", "least"), [(lambda: "0.2", 0.2), (in_two_seconds, 0.9)])
def test_a_retry_comes_no_sooner_than_the_server_asks(header: Callable[[], str], least: float):
    server = Server(lambda n: (200, {}, answer({"content": "y"})) if n else (429, {"Retry-After": header()}, ""))
    assert ask(server).text == "y"
    assert server.times[1] - server.times[0] >= least


@pytest.mark.parametrize("header", ["soon", "", "nan", "-5", "Mon, 01 Jan 99999999999999 00:00:00 GMT"])
def test_a_retry_after_that_says_nothing_is_left_out(header: str):
    server = Server(lambda n: (200, {}, answer({"content": "y"})) if n else (503, {"Retry-After": header}, ""))
    assert ask(server).text == "y"


GARBAGE = ("", "<html>", "[]", '{"choices": []}', '{"choices": [{}]}', '{"choices": null}', "[" * 100_000)


@pytest.mark.parametrize("body", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_ends_in_a_typed_error_after_all_attempts(body: str):
    server = Server(lambda n: (200, {}, body))
    with pytest.raises(RolloutError) as failure:
        ask(server)
    assert failure.value.kind == "parse"
    assert len(server.bodies) == ATTEMPTS


@pytest.mark.parametrize(
    "usage",
    [
        [],
        "many",
        7,
        {"prompt_tokens": "many", "completion_tokens": [2]},
        {"prompt_tokens": -1, "completion_tokens": 1e300},
        {"prompt_tokens": True, "completion_tokens": float("inf")},
        {"prompt_tokens": 2**80, "prompt_tokens_details": {"cached_tokens": 3}},
        {"prompt_tokens_details": ["cached_tokens"]},
        {"prompt_tokens_details": "none"},
    ],
)
def test_odd_counts_of_tokens_are_left_out_and_the_words_kept(usage: Any):
    made = read_completion(answer({"content": "hi"}, usage).encode())
    assert (made.text, made.prompt_tokens, made.completion_tokens, made.cached_tokens) == ("hi", 0, 0, 0)


def test_what_no_text_column_holds_is_replaced_as_it_comes_in():
    call = {"function": {"name": "search\ud800", "arguments": '{"area": "\\ud800"}'}}
    made = read_completion(answer({"content": "a\ud800b\x00", "tool_calls": [call]}).encode())
    assert made.text == "a?b�"
    assert made.tool_calls == (ToolCall("search?", {"arguments": '{"area": "\\ud800"}'}),)


def test_a_server_that_drips_its_answer_is_a_timeout():
    server = Dripping(lambda n: (200, {}, ""))
    started = time.monotonic()
    with pytest.raises(RolloutError) as failure:
        ask(server, seconds=0.1)
    assert failure.value.kind == "timeout"
    assert len(server.times) == ATTEMPTS and time.monotonic() - started < 60


def test_waiting_for_a_place_among_ones_own_requests_is_no_timeout():
    async def run() -> list[Completion]:
        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.4)
            await server.connection(reader, writer)

        server = Server(lambda n: (200, {}, answer({"content": "y"})))
        listener = await asyncio.start_server(slow, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
        policy = EndpointPolicy(url, "m", 1, first_delay=0.001, request_seconds=2)
        try:
            made = await asyncio.gather(*(policy.complete(HELLO) for _ in range(6)))
        finally:
            await policy.close()
            listener.close()
        assert len(server.bodies) == 6, "nothing was asked twice"
        return made

    assert [made.text for made in asyncio.run(run())] == ["y"] * 6


def test_what_a_library_raises_ends_the_request_alone():
    server = Server(lambda n: (400, {"Content-Type": "text/plain; charset=hex"}, "no"))
    with pytest.raises(RolloutError) as failure:
        ask(server)
    assert failure.value.kind == "endpoint"
    with pytest.raises(RolloutError, match="UnicodeEncodeError"):
        ask(server, replace(HELLO, messages=(Message("user", "\ud800"),)))


odd = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters(), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


def perhaps(wanted: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return wanted | odd


calls = st.fixed_dictionaries(
    {
        "function": perhaps(
            st.fixed_dictionaries(
                {
                    "name": perhaps(st.just("search_hotel")),
                    "arguments": perhaps(odd.map(json.dumps) | st.just('{"area": "north"}')),
                }
            )
        )
    }
)
counts = st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": odd,
        "completion_tokens": odd,
        "prompt_tokens_details": perhaps(st.fixed_dictionaries({"cached_tokens": odd})),
    },
)
messages = st.fixed_dictionaries(
    {}, optional={"content": odd, "tool_calls": perhaps(st.lists(perhaps(calls), max_size=2))}
)
choices = st.fixed_dictionaries({"message": perhaps(messages)}, optional={"finish_reason": odd})
answers = st.fixed_dictionaries(
    {"choices": perhaps(st.lists(perhaps(choices), max_size=2))}, optional={"usage": perhaps(counts)}
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """An answer with odd parts, and sometimes with a few of its bytes cut or replaced."""
    body = json.dumps(draw(answers), ensure_ascii=draw(st.booleans())).encode(errors="surrogatepass")
    for _ in range(draw(st.integers(0, 2))):
        start = draw(st.integers(0, len(body)))
        body = body[:start] + draw(st.binary(max_size=2)) + body[start + draw(st.integers(0, 4)) :]
    return body


def assert_reads(body: bytes) -> None:
    try:
        made = read_completion(body)
    except RolloutError as fault:
        assert fault.kind == "parse" and "raised" not in fault.message
        return
    made_calls = [[call.name, dict(call.arguments)] for call in made.tool_calls]
    stored = json.dumps([made.text, made.finish_reason, made_calls], allow_nan=False, ensure_ascii=False)
    assert stored.encode()
    assert 0 <= made.cached_tokens <= made.prompt_tokens < 2**31 > made.completion_tokens >= 0


@settings(max_examples=500, deadline=None)
@given(bodies())
def test_any_answer_is_a_completion_or_a_typed_error(body: bytes):
    assert_reads(body)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=100_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(bodies())
def test_each_of_a_hundred_thousand_answers_is_a_completion_or_a_typed_error(body: bytes):
    assert_reads(body)


def test_a_prompt_that_is_too_long_is_a_context_length_error_and_not_retried():
    server = Server(lambda n: (400, {}, "This model's maximum context length is 2048 tokens"))
    with pytest.raises(RolloutError) as failure:
        ask(server)
    assert failure.value.kind == "context_length"
    assert len(server.bodies) == 1


def test_a_server_without_the_place_or_the_model_is_told_with_what_may_be_wrong():
    server = Server(lambda n: (404, {}, '{"detail":"Not Found"}'))
    with pytest.raises(RolloutError, match=r"Not Found.*is the URL right, up to its /v1, and the model's name"):
        ask(server)
    assert len(server.bodies) == 1


def test_arguments_that_are_no_object_reach_the_world_as_an_unknown_parameter():
    call = {"function": {"name": "search_hotel", "arguments": "not json"}}
    server = Server(lambda n: (200, {}, answer({"content": None, "tool_calls": [call, "junk"]})))
    assert ask(server).tool_calls == (ToolCall("search_hotel", {"arguments": "not json"}),)


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret-1")
    monkeypatch.setenv("JOSH_KEY_HOSTS", "127.0.0.1")
    server = Server(lambda n: (200, {}, answer({"content": "y"})))
    ask(server)
    assert "authorization: bearer secret-1" in server.headers[0].lower()


@pytest.mark.parametrize("key", ["sécret", "secret\n", "secret\udcff"])
def test_a_key_that_no_header_holds_is_one_sentence(key: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    monkeypatch.setenv("JOSH_KEY_HOSTS", "127.0.0.1")
    with pytest.raises(UserError, match="OPENAI_API_KEY holds characters") as fault:
        EndpointPolicy("http://127.0.0.1:9/v1", "m", 4)
    assert "cret" not in str(fault.value)


def test_a_server_that_drips_its_models_does_not_answer():
    async def run() -> None:
        listener = await asyncio.start_server(Dripping(lambda n: (200, {}, "")).connection, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
        policy = EndpointPolicy(url, "m", 4, request_seconds=0.2)
        try:
            await policy.check()
        finally:
            await policy.close()
            listener.close()

    with pytest.raises(UserError, match=r"Nothing answers .* \(TimeoutError\)"):
        asyncio.run(run())


def test_an_endpoint_where_nothing_listens_is_one_sentence_before_any_work():
    async def run() -> None:
        chosen = PolicySettings(endpoint="http://127.0.0.1:9/v1", model="m")
        async with open_policy(chosen, None, "d", 4):
            raise AssertionError("opened")

    with pytest.raises(UserError, match="Nothing answers"):
        asyncio.run(run())
