"""What a server refuses of a request, and what is asked instead."""

import asyncio
from contextlib import suppress
from dataclasses import replace

import pytest
from endpoint_server import HELLO, Server, answer, ask, ask_all

from josh_pipeline.core.errors import RolloutError, UserError
from josh_pipeline.core.policy import Request, Sampling
from josh_pipeline.policies.endpoint import EndpointPolicy
from josh_pipeline.settings import load_settings

HOT = replace(HELLO, sampling=Sampling(0.7, 16, top_p=0.9, top_k=40))


def refusing(*names: str, status: int = 400, text: str = "{}") -> Server:
    """A server that refuses parameters by their names, one at a time."""

    def reply(n: int) -> tuple[int, dict[str, str], str]:
        refused = [name for name in names if name in server.bodies[-1]]
        return (status, {}, text.format(refused[0])) if refused else (200, {}, answer({"content": "ok"}))

    server = Server(reply)
    return server


def test_a_top_k_is_sent_where_it_is_set():
    server = refusing()
    ask_all(server, [HELLO, HOT])
    assert [body.get("top_k") for body in server.bodies] == [None, 40]


FORBIDDEN = '{{"detail": [{{"loc": ["body", "{}"], "msg": "Extra inputs are not permitted", "input": 40}}]}}'


@pytest.mark.parametrize(("status", "text"), [(400, "unknown field: {}"), (422, FORBIDDEN)])
def test_what_a_server_refuses_by_name_is_left_out_from_then_on(status: int, text: str):
    server = refusing("top_k", "seed", status=status, text=text)
    assert [made.text for made in ask_all(server, [HOT, HOT])] == ["ok", "ok"]
    assert [sorted(body.keys() & {"top_k", "seed"}) for body in server.bodies] == [["seed", "top_k"], ["seed"], [], []]


def test_another_value_of_what_was_refused_is_asked_for_all_the_same():
    def reply(n: int) -> tuple[int, dict[str, str], str]:
        zero = server.bodies[-1].get("temperature") == 0
        return (422, {}, "`temperature` must be strictly positive") if zero else (200, {}, answer({"content": "ok"}))

    server = Server(reply)
    ask_all(server, [HELLO, HOT, HELLO])
    assert [body.get("temperature") for body in server.bodies] == [0, None, 0.7, None]


def test_of_two_that_are_refused_together_the_one_is_given_up_that_changes_nothing():
    def reply(n: int) -> tuple[int, dict[str, str], str]:
        both = server.bodies[-1].keys() >= {"temperature", "top_p"}
        said = "`temperature` and `top_p` cannot both be specified for this model."
        return (400, {}, said) if both else (200, {}, answer({"content": "ok"}))

    server = Server(reply)
    assert (unmet_by(server, HELLO), server.bodies[-1]["temperature"]) == ("", 0)


def unmet_by(server: Server, *requests: Request) -> str:
    """What an endpoint says was not met, after requests."""

    async def run() -> str:
        listener = await asyncio.start_server(server.connection, "127.0.0.1", 0)
        policy = EndpointPolicy(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1", "m", 4)
        try:
            for request in requests:
                with suppress(RolloutError):
                    await policy.complete(request)
            return policy.unmet.partition(" does not take ")[2]
        finally:
            await policy.close()
            listener.close()

    return asyncio.run(run())


def test_a_refusal_that_is_about_something_else_is_told_as_it_was_and_nothing_is_given_up():
    said = "top_k of 40 and seed 7 cannot be used with this prompt"
    server = Server(lambda n: (400, {}, said if n % 3 == 0 else "no"))
    with pytest.raises(RolloutError, match=f"HTTP 400: {said}"):
        ask(server, HOT)
    server = Server(lambda n: (400, {}, said) if n < 3 else (200, {}, answer({"content": "ok"})))
    assert unmet_by(server, HOT) == ""


def test_a_limit_that_is_too_large_is_the_servers_sentence_and_is_never_dropped():
    limits = ("max_tokens", "max_completion_tokens")
    server = refusing(*limits, text="{} is too large: this model supports at most 8")
    with pytest.raises(RolloutError, match="HTTP 400: max_tokens is too large"):
        ask(server)
    assert [[name for name in limits if name in body] for body in server.bodies] == [[limits[0]], [limits[1]]]


@pytest.mark.parametrize("section", ["policy", "user"])
def test_what_requests_hold_besides_takes_the_place_of_nothing_that_the_pipeline_writes(section: str):
    with pytest.raises(UserError, match=rf"{section}\.extra_body: messages and stream cannot be given here"):
        load_settings("quickstart", {section: {"extra_body": {"stream": True, "messages": []}}})
