"""The search against a server of fixed latency: is it as fast as its longest path, and is the server busy?

Run: python benchmarks/search.py [--latency 0.2] [--trees 64]

(a) One tree at beam 8: the wall time over the critical path, which is the sum over rounds of the longest
turn's requests times the latency, next to the same search stepped leaf by leaf (one request in flight).
(b) Many trees at once, the server serving 32 requests at a time: the share of its places that are taken, from
the first moment with 32 outstanding requests to the last at which 32 leaves are ready; then the tail.
Goals, worlds, users and the agent are real ones on the built-in corpus; the answers are random.
"""

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.core.user import User
from josh_pipeline.core.world import World
from josh_pipeline.dialogue.agents import make_agent
from josh_pipeline.environments.toolwoz.environment import ToolWoz
from josh_pipeline.environments.toolwoz.goal import Goal
from josh_pipeline.environments.toolwoz.sample import sample_corpus
from josh_pipeline.environments.toolwoz.settings import GoalSettings, ToolWozSettings
from josh_pipeline.policies.endpoint import EndpointPolicy
from josh_pipeline.search.concurrency import Limiter
from josh_pipeline.search.rollouts import rollouts
from josh_pipeline.search.search import search
from josh_pipeline.search.spending import Ledger, Meter
from josh_pipeline.search.tree import Tree
from josh_pipeline.settings import SearchSettings

CAPACITY = 32
IN_FLIGHT = 40
"""A quarter more than the server serves at a time, so that a place is taken again without a round trip."""
MOST_SLOWDOWN, LEAST_BUSY = 1.3, 0.95
SETTINGS = SearchSettings.model_validate({"beam_size": 8, "in_flight": IN_FLIGHT, "max_rounds": 15})
AGENT = make_agent("compact", "compact")


@contextmanager
def server(latency: float) -> Iterator[str]:
    """Start the server in a process of its own and give its URL."""
    script = Path(__file__).with_name("fixed_latency_server.py")
    command = [sys.executable, str(script), "--latency", str(latency), "--capacity", str(CAPACITY)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.terminate()


class Play:
    """Goals of the built-in corpus, with the worlds and users that go with them."""

    def __init__(self, count: int) -> None:
        whole = ToolWozSettings(goals=GoalSettings(kind="whole"))
        self.environment = ToolWoz(whole, sample_corpus(max(20, count), seed=0))
        goals = [goal for goal in self.environment.tasks() if goal.excluded is None and len(goal.calls) > 1]
        # The server calls no booking, so goals with one play all of their rounds.
        self.goals = [goal for goal in goals * count if any("book" in call.tool for call in goal.calls)][:count]

    def world(self, goal: Goal) -> World:
        """A fresh world."""
        return self.environment.world(goal, searching=True)

    def user(self, goal: Goal, seed: int, meter: Meter | None = None) -> User:
        """A patient user; it has no model, so there is nothing to count."""
        return self.environment.user(goal, seed, 20)


async def one_tree(url: str, play: Play, in_flight: int) -> Tree:
    """Search the first goal."""
    policy = EndpointPolicy(url, "fixed", IN_FLIGHT)
    goal = play.goals[0]
    try:
        return await search(
            goal.goal_id,
            world=play.world(goal),
            user=play.user(goal, 0),
            policy=policy,
            agent=AGENT,
            settings=SETTINGS,
            settings_digest="benchmark",
            seed=0,
            limiter=Limiter(in_flight),
            account=Ledger().account(),
        )
    finally:
        await policy.close()


def critical_path(tree: Tree) -> int:
    """Requests that had to follow each other: the longest turn of each round."""
    longest: dict[int, int] = {}
    for node in tree.nodes:
        longest[node.round] = max(longest.get(node.round, 0), len(node.completions))
    return sum(longest.values())


@dataclass
class Ready:
    """Leaves that are ready: requests in flight or waiting, as they change."""

    changes: list[tuple[float, int]]

    def change(self, by: int) -> None:
        """Count requests in or out."""
        self.changes.append((time.monotonic(), by))

    def window(self) -> tuple[float, float]:
        """Return the first and the last moment at which the server could have been full."""
        ready, first, last = 0, None, 0.0
        for moment, by in self.changes:
            if ready >= CAPACITY:
                last = moment
            ready += by
            if ready >= CAPACITY and first is None:
                first = moment
        if first is None:
            raise SystemExit(f"There were never {CAPACITY} requests outstanding: take more trees.")
        return first, last


def watched(ready: Ready) -> None:
    """Have every limiter report the requests that come and go."""
    acquire, release = Limiter.acquire, Limiter.release

    async def acquiring(self: Limiter, order: int) -> None:
        ready.change(1)
        await acquire(self, order)

    def releasing(self: Limiter) -> None:
        ready.change(-1)
        release(self)

    Limiter.acquire, Limiter.release = acquiring, releasing  # type: ignore[method-assign]


def busy_share(log: Sequence[tuple[float, float]], first: float, last: float) -> float:
    """Return the share of the server's places that were taken in a window."""
    taken = sum(max(0.0, min(end, last) - max(begin, first)) for begin, end in log)
    return taken / (CAPACITY * (last - first))


async def many_trees(url: str, play: Play) -> list[Tree]:
    """Search all goals."""
    policy = EndpointPolicy(url, "fixed", IN_FLIGHT)
    trees: list[Tree] = []
    try:
        await rollouts(
            play.goals,
            play.world,
            play.user,
            policy,
            AGENT,
            SETTINGS,
            settings_digest="benchmark",
            seed=0,
            attempt=0,
            checkpoint=trees.extend,
            progress=SilentProgress(),
            ledger=Ledger(),
        )
    finally:
        await policy.close()
    return trees


def main() -> int:
    """Run both measurements and print them; exit 1 where a figure misses its target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds a request (default 0.2)")
    parser.add_argument("--trees", type=int, default=64, help="trees at once (default 64)")
    arguments = parser.parse_args()
    play = Play(arguments.trees)
    with server(arguments.latency) as url:
        tree = asyncio.run(one_tree(url, play, IN_FLIGHT))
        path, wall = critical_path(tree) * arguments.latency, tree.usage.seconds
        print(f"(a) one tree, beam 8: {tree.rounds} rounds, {tree.usage.requests} requests")
        slowdown = wall / path
        print(f"    wall {wall:.2f} s = {slowdown:.3f} x the critical path of {path:.2f} s")
        serial = asyncio.run(one_tree(url, play, 1))
        assert serial.nodes == tree.nodes, "the same search must give the same tree"
        print(f"    leaf by leaf {serial.usage.seconds:.2f} s = {serial.usage.seconds / path:.2f} x")

        httpx2.get(f"{url}/log")
        ready = Ready([])
        watched(ready)
        began, used = time.monotonic(), time.process_time()
        trees = asyncio.run(many_trees(url, play))
        ended, used = time.monotonic(), time.process_time() - used
        log = [(begin, end) for begin, end in httpx2.get(f"{url}/log").json()]
    first, last = ready.window()
    requests = sum(tree.usage.requests for tree in trees)
    print(f"(b) {len(trees)} trees at once, {CAPACITY} served at a time, {IN_FLIGHT} in flight at most:")
    print(f"    {requests} requests in {ended - began:.1f} s, {1000 * used / requests:.2f} ms own time each")
    busy = busy_share(log, first, last)
    print(f"    full for {last - first:.1f} s: busy {busy:.1%}")
    print(f"    then a tail of {ended - last:.1f} s: busy {busy_share(log, last, ended):.1%}")
    print(f"    the whole run: busy {busy_share(log, began, ended):.1%}")
    return int(slowdown > MOST_SLOWDOWN or busy < LEAST_BUSY)


if __name__ == "__main__":
    sys.exit(main())
