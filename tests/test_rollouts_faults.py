import asyncio
import itertools
import json
import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

from fakes import PrizeWorld, TinyAgent, TinyUser

from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.policies.endpoint import EndpointPolicy
from josh_pipeline.search.rollouts import RolloutSummary, rollouts
from josh_pipeline.search.spending import Ledger
from josh_pipeline.search.tree import Tree
from josh_pipeline.settings import SearchSettings

FAULTS = ("429", "500", "hang", "cut", "drip", "garbage", "empty", "deep")
ODDITIES = ("usage", "details", "counts", "calls")
"""Answers whose words can be read all the same."""
ANSWERS = ("GET a", "GET b", "GET x", "?", "hello", "well")


@dataclass(frozen=True)
class Wish:
    """A goal: prizes to win."""

    goal_id: str
    prizes: str = "ab"


class FaultyServer:
    """Answers chats, but for a share of faults, drawn request by request; their kinds take turns."""

    def __init__(self, share: float, faults: tuple[str, ...] = FAULTS) -> None:
        self.share = share
        self.faults = itertools.cycle(faults)
        self.draw = random.Random(3)
        self.served: Counter[str] = Counter()

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                (length,) = [line for line in head.split("\r\n") if line.lower().startswith("content-length")]
                seed = json.loads(await reader.readexactly(int(length.split(":")[1])))["seed"]
                fault = next(self.faults) if self.draw.random() < self.share else "none"
                self.served[fault] += 1
                if fault == "cut":
                    break
                if fault == "hang":
                    await asyncio.sleep(1)
                    break
                if fault == "drip":
                    writer.write(b"HTTP/1.1 200 Status\r\nContent-Length: 1000\r\n\r\n")
                    while not reader.at_eof():
                        writer.write(b" ")
                        await writer.drain()
                        await asyncio.sleep(0.03)
                    break
                body = json.dumps(odd_answer(random.Random(seed).choice(ANSWERS), fault))
                garbage = {"garbage": body[: len(body) // 2], "empty": '{"choices": []}', "deep": "[" * 10**5}
                body = garbage.get(fault, body)
                status = fault if fault in ("429", "500") else "200"
                head = f"HTTP/1.1 {status} Status\r\nRetry-After: 0\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write((head + body).encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client closed the connection, as it does after a timeout
        writer.close()


def odd_answer(text: str, oddity: str) -> dict[str, Any]:
    """An answer with one part that is not what it should be."""
    message: dict[str, Any] = {"content": text}
    if oddity == "calls":
        message["tool_calls"] = [7, {"function": {"name": "x", "arguments": "[" * 10**5}}]
    usage: Any = {
        "usage": ["many"],
        "details": {"prompt_tokens": 9, "prompt_tokens_details": "none"},
        "counts": {"prompt_tokens": "nine", "completion_tokens": 10**30},
    }.get(oddity, {"prompt_tokens": 9})
    return {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}


async def play(server: FaultyServer, trees: list[Tree]) -> RolloutSummary:
    listening = await asyncio.start_server(server.connection, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    policy = EndpointPolicy(f"http://127.0.0.1:{port}/v1", "model", 16, first_delay=0.001, request_seconds=0.15)
    try:
        return await rollouts(
            [Wish(f"goal {number}") for number in range(12)],
            lambda wish: PrizeWorld(wish.prizes),
            lambda wish, seed, meter: TinyUser(),
            policy,
            TinyAgent(),
            SearchSettings(in_flight=16, max_rounds=3, max_failed_share=1.0),
            settings_digest="settings",
            seed=0,
            attempt=0,
            checkpoint=trees.extend,
            progress=SilentProgress(),
            ledger=Ledger(),
        )
    finally:
        await policy.close()
        listening.close()


def test_with_a_fifth_of_the_answers_faulty_every_goal_ends_in_the_tree_it_would_have_been():
    server, trees = FaultyServer(0.2, FAULTS + ODDITIES), list[Tree]()
    summary = asyncio.run(play(server, trees))
    assert all(server.served[fault] for fault in FAULTS + ODDITIES)
    assert len({tree.goal_id for tree in trees}) == summary.finished == 12
    calm: list[Tree] = []
    asyncio.run(play(FaultyServer(0.0), calm))
    said = {tree.goal_id: [node.messages for node in tree.nodes] for tree in calm}
    whole = [tree for tree in trees if not any(node.failure for node in tree.nodes)]
    assert whole and all([node.messages for node in tree.nodes] == said[tree.goal_id] for tree in whole)


def test_with_nothing_but_faults_every_goal_ends_in_a_typed_error():
    trees: list[Tree] = []
    summary = asyncio.run(play(FaultyServer(1.0), trees))
    assert summary.finished == 12 == sum(summary.failures.values())
    assert {tree.failure for tree in trees} <= {"endpoint", "timeout", "parse"}
    assert all(tree.failure_message for tree in trees)


def test_answers_that_are_odd_but_readable_are_no_faults():
    trees: list[Tree] = []
    asyncio.run(play(FaultyServer(1.0, ODDITIES), trees))
    assert len(trees) == 12 and not any(node.failure for tree in trees for node in tree.nodes)
