import asyncio
import json
import random
from collections import Counter
from dataclasses import dataclass

from fakes import PrizeWorld, TinyAgent, TinyUser

from josh_pipeline.policies.endpoint import EndpointPolicy
from josh_pipeline.progress import SilentProgress
from josh_pipeline.search.rollouts import RolloutSummary, rollouts
from josh_pipeline.search.spending import Ledger
from josh_pipeline.search.tree import Tree
from josh_pipeline.settings import SearchSettings

FAULTS = ("429", "500", "hang", "cut", "garbage", "empty")
ANSWERS = ("GET a", "GET b", "GET x", "?", "hello", "well")


@dataclass(frozen=True)
class Wish:
    """A goal: prizes to win."""

    goal_id: str
    prizes: str = "ab"


class FaultyServer:
    """Answers chats, but for a share of faults of every kind, drawn request by request."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.draw = random.Random(3)
        self.served: Counter[str] = Counter()

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                (length,) = [line for line in head.split("\r\n") if line.lower().startswith("content-length")]
                seed = json.loads(await reader.readexactly(int(length.split(":")[1])))["seed"]
                fault = self.draw.choice(FAULTS) if self.draw.random() < self.share else "none"
                self.served[fault] += 1
                if fault == "cut":
                    break
                if fault == "hang":
                    await asyncio.sleep(1)
                    break
                text = random.Random(seed).choice(ANSWERS)
                body = json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]})
                body = {"garbage": body[: len(body) // 2], "empty": '{"choices": []}'}.get(fault, body)
                status = fault if fault in ("429", "500") else "200"
                head = f"HTTP/1.1 {status} Status\r\nRetry-After: 0\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write((head + body).encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client closed the connection, as it does after a timeout
        writer.close()


async def play(server: FaultyServer, trees: list[Tree]) -> RolloutSummary:
    listening = await asyncio.start_server(server.connection, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    policy = EndpointPolicy(
        f"http://127.0.0.1:{port}/v1", "model", 16, first_delay=0.001, request_seconds=0.15
    )
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
            done=(),
            checkpoint=trees.extend,
            progress=SilentProgress(),
            ledger=Ledger(),
        )
    finally:
        await policy.close()
        listening.close()


def test_with_a_fifth_of_the_answers_faulty_every_goal_ends_in_the_tree_it_would_have_been():
    server, trees = FaultyServer(0.2), list[Tree]()
    summary = asyncio.run(play(server, trees))
    assert all(server.served[fault] for fault in FAULTS)
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
    assert {tree.failure for tree in trees} <= {"endpoint", "timeout"}
    assert all(tree.failure_message for tree in trees)
