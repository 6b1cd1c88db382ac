"""Tool calls and goals a second, against a plain baseline that filters data frames.

Run: JOSH_MULTIWOZ=FOLDER python benchmarks/world.py [--seconds 3]

The mix: 40 % searches with the whole goal, 40 % with a part of it, 10 % without arguments, 10 % bookings,
on the real validation goals. The baseline answers as the published code does: it copies a pandas frame,
filters it one argument after another, turns every row that is left into a dictionary and looks through all
of them. It follows ``paper`` semantics, and its answers are compared with ours before anything is timed.
"""

import argparse
import json
import os
import random
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas

from josh_pipeline.core.world import ToolResult
from josh_pipeline.environments.toolwoz.corpus import Corpus
from josh_pipeline.environments.toolwoz.databases import contains, is_empty, normalise
from josh_pipeline.environments.toolwoz.goal import DOMAINS, ID_KEY, Goal, GroundTruthCall, Semantics
from josh_pipeline.environments.toolwoz.goals import derive_goals
from josh_pipeline.environments.toolwoz.reader import read_corpus
from josh_pipeline.environments.toolwoz.world import ToolWozWorld

Call = tuple[str, dict[str, str]]


class PlainWorld:
    """Answers the calls of one goal by filtering frames; no index, nothing kept between calls."""

    def __init__(self, goal: Goal, frames: Mapping[str, pandas.DataFrame]) -> None:
        self.frames = frames
        self.calls = {call.tool: call for call in goal.calls}

    def call(self, tool: str, arguments: Mapping[str, str]) -> Any:
        """Return the served rows of a search, or whether a booking succeeds."""
        action, domain = tool.split("_")
        lowered = {key: normalise(value) for key, value in arguments.items()}
        booking = self.calls.get(f"book_{domain}")
        if action == "book":
            return booking is not None and within(booking.parameters, lowered)
        rows = self.query(domain, lowered)
        search = self.calls.get(f"search_{domain}")
        if not rows or search is None:
            return rows[:1]
        return self.serve(domain, search, booking, lowered, rows)

    def query(self, domain: str, lowered: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the rows of a frame that pass every filter."""
        frame = self.frames[domain].copy()
        for key, value in lowered.items():
            if is_empty(value):
                continue
            if key == "leaveAt":
                frame = frame[frame[key] > value]
            elif key == "arriveBy":
                frame = frame[frame[key] < value]
            else:
                frame = frame[frame[key] == value]
        return [row.to_dict() for _, row in frame.iterrows()]

    def serve(
        self,
        domain: str,
        search: GroundTruthCall,
        booking: GroundTruthCall | None,
        lowered: Mapping[str, str],
        rows: list[dict[str, Any]],
    ) -> list[dict[str, Any]]:
        """Look through all rows for the target and for the last wrong one."""
        target, wrong = [], []
        for row in rows:
            if booking is not None and booking.entity and row[ID_KEY[domain]] == booking.entity[ID_KEY[domain]]:
                target = [row]
            if not within(search.parameters, row):
                wrong = [row]
        if within(search.parameters, lowered):
            return rows[:1] if booking is None else target or wrong
        if within(lowered, search.parameters):
            return wrong or target or rows[:1]
        return rows[:1]


class Untouched:
    """Makes every call in a fork of its own, so that no call profits from what others earned."""

    def __init__(self, world: ToolWozWorld) -> None:
        self.world = world

    def call(self, tool: str, arguments: Mapping[str, str]) -> ToolResult:
        """Fork, then call."""
        return self.world.fork().call(tool, arguments)


def within(smaller: Mapping[str, Any], larger: Mapping[str, Any]) -> bool:
    """Tell whether every non-empty value of one mapping stands in the other, both normalised."""
    cleaned = [
        {k: normalise(v) if isinstance(v, str) else v for k, v in values.items() if not is_empty(v)}
        for values in (smaller, larger)
    ]
    return contains(cleaned[1], cleaned[0])


def mixed_calls(goals: list[Goal], number: int, seed: int) -> list[tuple[Goal, Call]]:
    """Draw calls: 40 % the whole goal, 40 % a part of it, 10 % no argument, 10 % bookings."""
    rng = random.Random(seed)
    with_booking = [goal for goal in goals if any(c.tool.startswith("book_") for c in goal.calls)]
    drawn: list[tuple[Goal, Call]] = []
    for _ in range(number):
        kind = rng.choices(("whole", "part", "none", "booking"), (40, 40, 10, 10))[0]
        goal = rng.choice(with_booking if kind == "booking" else goals)
        prefix = "book_" if kind == "booking" else "search_"
        call = rng.choice([c for c in goal.calls if c.tool.startswith(prefix)])
        arguments = dict(call.parameters)
        if kind == "none":
            arguments = {}
        elif kind == "part":
            kept = rng.sample(sorted(arguments), rng.randint(min(1, len(arguments)), max(len(arguments) - 1, 1)))
            arguments = {name: arguments[name] for name in kept}
        drawn.append((goal, (call.tool, arguments)))
    return drawn


def disagreements(corpus: Corpus, calls: list[tuple[Goal, Call]]) -> int:
    """Count the calls that the baseline and ``paper`` answer differently."""
    databases, frames = corpus.indexed, frames_of(corpus)
    different = 0
    for goal, (tool, arguments) in calls:
        plain = PlainWorld(goal, frames).call(tool, arguments)
        payload = ToolWozWorld(goal, databases, "paper").call(tool, arguments).payload
        ours = payload["rows"] if "rows" in payload else payload["success"]
        if isinstance(plain, list):  # a frame fills what a row lacks with NaN
            plain = [{k: v for k, v in row.items() if v == v} for row in plain]
        different += plain != ours
    return different


def frames_of(corpus: Corpus) -> dict[str, pandas.DataFrame]:
    """Return the databases as data frames."""
    return {domain: pandas.DataFrame([dict(row) for row in corpus.databases[domain]]) for domain in DOMAINS}


def rate(calls: list[tuple[Any, Call]], seconds: float) -> float:
    """Return calls a second; ``calls`` holds (something with ``call``, (tool, arguments))."""
    made, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        for player, (tool, arguments) in calls[made % len(calls) : made % len(calls) + 50]:
            player.call(tool, arguments)
            made += 1
    return made / passed


def seconds_of(work: Callable[[], Any], repeats: int = 5) -> float:
    """Return the median wall time of some work."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return sorted(times)[repeats // 2]


def derive_cold(corpus: Corpus, semantics: Semantics) -> list[Goal]:
    """Derive the goals with databases indexed anew."""
    fresh = Corpus(corpus.name, corpus.digest, "", "", corpus.dialogues, dict(corpus.databases))
    return derive_goals(fresh, semantics)


def measure(corpus: Corpus, seconds: float) -> dict[str, float]:
    """Print every figure and return it by name."""
    figures: dict[str, float] = {}
    both: tuple[Semantics, ...] = ("paper", "audited")
    goals = {s: [g for g in derive_goals(corpus, s) if g.excluded is None] for s in both}
    calls = mixed_calls(goals["paper"], 20_000, seed=0)
    figures["checked"], figures["disagreements"] = 500, disagreements(corpus, calls[:500])
    frames = frames_of(corpus)
    players = {goal.goal_id: PlainWorld(goal, frames) for goal in goals["paper"]}
    figures["plain"] = rate([(players[goal.goal_id], call) for goal, call in calls], seconds)
    for semantics, of_semantics in goals.items():
        world = partial(ToolWozWorld, databases=corpus.indexed, semantics=semantics)
        ready = {goal.goal_id: Untouched(world(goal)) for goal in of_semantics}
        mixed = mixed_calls(of_semantics, 20_000, seed=0)
        figures[semantics] = rate([(ready[goal.goal_id], call) for goal, call in mixed], seconds)
        figures[f"{semantics}_goals_s"] = seconds_of(partial(derive_cold, corpus, semantics))
        start = time.perf_counter()
        for goal in of_semantics:
            world(goal)
        figures[f"{semantics}_world_us"] = (time.perf_counter() - start) / len(of_semantics) * 1e6
        first = world(of_semantics[0])
        start = time.perf_counter()
        for _ in range(10_000):
            first.fork()
        figures[f"{semantics}_fork_us"] = (time.perf_counter() - start) * 100
    return figures


def main() -> int:
    """Measure and print; exit 1 where a figure misses its target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", default=os.environ.get("JOSH_MULTIWOZ"), help="folder of MultiWOZ")
    parser.add_argument("--seconds", type=float, default=3.0, help="time for each rate")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    if not options.corpus:
        print("Give --corpus FOLDER or set JOSH_MULTIWOZ.", file=sys.stderr)
        return 2
    corpus = read_corpus(options.corpus, Path.cwd())
    figures = measure(corpus, options.seconds)
    if options.json:
        print(json.dumps(figures))
    else:
        print(f"{corpus.name}: baseline and paper differ on {figures['disagreements']:.0f} of 500 calls")
        print(f"plain frames {figures['plain']:12,.0f} calls/s")
        for semantics in ("paper", "audited"):
            speed = figures[semantics]
            print(
                f"{semantics:12} {speed:12,.0f} calls/s, {speed / figures['plain']:,.0f} x; "
                f"goals in {figures[f'{semantics}_goals_s']:.3f} s with indexing; "
                f"a world {figures[f'{semantics}_world_us']:.0f} µs, "
                f"a fork {figures[f'{semantics}_fork_us']:.2f} µs"
            )
    met = figures["disagreements"] == 0 and all(
        figures[s] >= 100 * figures["plain"] and figures[f"{s}_goals_s"] < 0.5 for s in ("paper", "audited")
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
