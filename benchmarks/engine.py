"""The search against its engine: how much of what the engine can do does a rollout run get out of it?

Run: python benchmarks/engine.py [--checkpoint FOLDER] [--goals 48] [--backend vllm]

Searches goals of the built-in corpus with the quickstart's settings and a real engine, then replays the same
requests (prompts, sampling, seeds) on a fresh engine with the same cache settings, in the same rounds but
without the search: all requests of a round, over all trees, are one batch. A round of the search in which
agents made several requests a turn is as many batches. Prints the generated tokens a second of both, their
ratio, and what the search spends its time on. ``--checkpoint`` is a model folder, best the base of a finished
home (models/base-... in it), which talks as agents do; without it the bundled model answers untaught.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from josh_pipeline.cli.options import quiet_libraries
from josh_pipeline.core.content import derived_seed
from josh_pipeline.core.environment import Environment, Task
from josh_pipeline.core.policy import Sampling
from josh_pipeline.core.progress import SilentProgress, TerminalProgress
from josh_pipeline.core.user import User
from josh_pipeline.dialogue.agents import make_agent
from josh_pipeline.environments.registry import environment_class
from josh_pipeline.policies.chat import ChatRenderer
from josh_pipeline.policies.local import Engine, Generated, LocalPolicy
from josh_pipeline.policies.models import foundation
from josh_pipeline.policies.open import open_engine
from josh_pipeline.policies.weights import Weights
from josh_pipeline.search.rollouts import rollouts
from josh_pipeline.search.spending import Ledger, Meter
from josh_pipeline.search.tree import Tree
from josh_pipeline.settings import Settings, load_settings

Asked = tuple[list[int], Sampling]
LEAST_RATIO = 0.85


@dataclass
class Recorder:
    """An engine that keeps what it was asked, by seed, and when it had work.

    Attributes:
        asked: prompt and sampling of each request by its seed, which no two share.
        request_seconds: summed over the requests.
        tokens: generated so far.
    """

    engine: Engine
    asked: dict[int, Asked] = field(default_factory=dict)
    request_seconds: float = 0.0
    tokens: int = 0

    async def generate(self, prompt: list[int], sampling: Sampling, seed: int) -> Generated:
        """Ask the engine, and take notes."""
        assert seed not in self.asked
        self.asked[seed] = prompt, sampling
        began = time.monotonic()
        generated = await self.engine.generate(prompt, sampling, seed)
        self.request_seconds += time.monotonic() - began
        self.tokens += len(generated.token_ids)
        return generated

    async def close(self) -> None:
        """Close the engine."""
        await self.engine.close()


@dataclass(frozen=True)
class Run:
    """Generated tokens, wall time and the time that this process itself computed."""

    tokens: int
    seconds: float
    own_seconds: float

    @property
    def rate(self) -> float:
        """Generated tokens a second."""
        return self.tokens / self.seconds


async def warmed(engine: Engine) -> Engine:
    """The engine after its first request, which pays for what is set up lazily."""
    await engine.generate(list(range(10, 30)), Sampling(0.7, 4), 1)
    return engine


async def searched(
    settings: Settings, environment: Environment[Any], weights: Weights, goals: list[Task]
) -> tuple[Run, Recorder, list[Tree]]:
    """Search the goals."""
    renderer = ChatRenderer(weights.base)
    engine = await open_engine(settings.policy, weights, renderer, settings.search.in_flight)
    recorder = Recorder(await warmed(engine))
    policy = LocalPolicy(renderer, recorder, "benchmark", settings.policy.max_model_tokens)

    def user(goal: Task, seed: int, meter: Meter) -> User:
        return environment.user(goal, seed, settings.user.max_turns)

    trees: list[Tree] = []
    began, own = time.monotonic(), time.process_time()
    try:
        await rollouts(
            goals,
            partial(environment.world, searching=True),
            user,
            policy,
            make_agent(settings.policy.agent, settings.policy.results),
            settings.search,
            settings_digest="benchmark",
            seed=0,
            attempt=0,
            checkpoint=trees.extend,
            progress=TerminalProgress(),
            ledger=Ledger(),
        )
        run = Run(recorder.tokens, time.monotonic() - began, time.process_time() - own)
    finally:
        await policy.close()
    return run, recorder, trees


def batches(trees: list[Tree], asked: dict[int, Asked]) -> list[list[int]]:
    """Return the seeds of the requests of each round, the n-th requests of its turns together."""
    rounds: dict[tuple[int, int], list[int]] = defaultdict(list)
    for tree in trees:
        for node in tree.nodes:
            for index in range(len(node.completions)):
                seed = derived_seed(tree.seed, tree.goal_id, node.path, index)
                rounds[node.round, index].append(seed)
    assert sum(map(len, rounds.values())) == len(asked), "every request must be replayed"
    return [seeds for _, seeds in sorted(rounds.items())]


async def replayed(settings: Settings, weights: Weights, rounds: list[list[int]], asked: dict[int, Asked]) -> Run:
    """Ask for the same completions, a round at a time."""
    engine = await warmed(
        await open_engine(settings.policy, weights, ChatRenderer(weights.base), settings.search.in_flight)
    )
    tokens = 0
    began, own = time.monotonic(), time.process_time()
    try:
        for seeds in rounds:
            answers = await asyncio.gather(*(engine.generate(*asked[seed], seed) for seed in seeds))
            tokens += sum(len(answer.token_ids) for answer in answers)
        return Run(tokens, time.monotonic() - began, time.process_time() - own)
    finally:
        await engine.close()


def main() -> int:
    """Search, replay, and print both; exit 1 where the ratio misses its target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="model folder (default: the bundled model)")
    parser.add_argument("--goals", type=int, default=48, help="trees (default 48, the quickstart's)")
    parser.add_argument("--backend", choices=("auto", "vllm", "transformers"), default="auto")
    options = parser.parse_args()
    quiet_libraries()
    settings = load_settings("quickstart", {"policy": {"backend": options.backend}})
    with tempfile.TemporaryDirectory() as scratch:
        environment = environment_class(settings.environment.name).read(
            settings.environment, Path(scratch), SilentProgress()
        )
        played = (goal for goal in environment.tasks() if goal.kind == environment.played)
        goals = [goal for goal in played if goal.excluded is None][: options.goals]
        base = options.checkpoint or foundation("smollm2", Path(scratch))
        weights = Weights(base, None, Path(scratch) / "merged")
        run, recorder, trees = asyncio.run(searched(settings, environment, weights, goals))
        rounds = batches(trees, recorder.asked)
        plain = asyncio.run(replayed(settings, weights, rounds, recorder.asked))
    cached = sum(tree.usage.cached_tokens for tree in trees) / sum(tree.usage.prompt_tokens for tree in trees)
    print(f"{len(trees)} trees at beam 8, {len(recorder.asked)} requests in {len(rounds)} rounds,")
    print(f"at most {settings.search.in_flight} in flight, {cached:.0%} of the prompt tokens cached")
    print(f"search: {run.tokens} tokens in {run.seconds:.1f} s = {run.rate:.0f} tokens/s")
    print(f"replay: {plain.tokens} tokens in {plain.seconds:.1f} s = {plain.rate:.0f} tokens/s")
    print(f"ratio:  {run.rate / plain.rate:.2f}")
    print(f"requests under way in the search, on average: {recorder.request_seconds / run.seconds:.1f}")
    own = 1000 * run.own_seconds / len(recorder.asked)
    print(f"the search's own computing: {run.own_seconds:.1f} s, {own:.2f} ms a request;")
    print(f"the replay's: {plain.own_seconds:.1f} s")
    return int(run.rate < LEAST_RATIO * plain.rate)


if __name__ == "__main__":
    sys.exit(main())
