"""A regression made on purpose: the same trees and the same training, with labels and with shuffled labels.

A tiny model is first taught to fetch the prize that its user names, with a quarter of its examples wrong: it
knows the task and still errs when it samples. Its own search trees give KTO rows. Trained on them it passes
the gate; trained on the same rows with their labels shuffled it does not.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
import torch
from fakes import PrizeWorld, TinyAgent
from tiny_model import tiny_model
from transformers import AutoModelForCausalLM

from josh_pipeline.core.messages import Conversation, Message, ToolCall
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.core.user import UserReply
from josh_pipeline.evaluation.benchmark import Episode, evaluate
from josh_pipeline.evaluation.gate import Gate
from josh_pipeline.evaluation.statistics import paired_bootstrap, paired_values
from josh_pipeline.harvest.harvest import harvest
from josh_pipeline.harvest.rows import Provenance, Row, Said, Side
from josh_pipeline.policies.chat import ChatRenderer
from josh_pipeline.policies.local import LocalPolicy
from josh_pipeline.policies.models import pad_id
from josh_pipeline.policies.transformers_engine import TransformersEngine
from josh_pipeline.policies.weights import Weights
from josh_pipeline.search.rollouts import rollouts
from josh_pipeline.search.spending import Ledger
from josh_pipeline.search.tree import Tree
from josh_pipeline.settings import EvaluationSettings, SearchSettings
from josh_pipeline.settings.training import KtoSettings, LoraSettings
from josh_pipeline.training.run import train
from josh_pipeline.training.tokens import IGNORED, RowTokenizer, TokenExample

PRIZES = "abcdefghijklmnopqrstuvwxyz"
TRAIN_WORDS, VAL_WORDS = "I want {}.", "Give me {}."
WRONG = 0.25
STEPS = 450
KTO = KtoSettings(
    learning_rate=1e-2, epochs=10, batch_size=16, processes=0, threads=1, lora=LoraSettings(r=8, alpha=16)
)


@dataclass(frozen=True)
class Wish:
    """A goal: the prize that the user names."""

    goal_id: str
    prize: str
    words: str


@dataclass(frozen=True)
class WishingUser:
    """Says what it wants, then goodbye."""

    wish: Wish

    async def reply(self, conversation: Conversation) -> UserReply:
        if conversation:
            return UserReply("Goodbye.", done=True)
        return UserReply(self.wish.words.format(self.wish.prize), done=False)


def wishes(words: str, times: int) -> list[Wish]:
    return [Wish(f"{words} {prize} {n}", prize, words) for n in range(times) for prize in PRIZES]


def taught(folder: Path) -> Path:
    """A tiny model that fetches what its user names, most of the time."""
    tiny_model(folder, seed=1)
    agent = TinyAgent()
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = RowTokenizer(ChatRenderer(folder))
    draw = random.Random(0)

    @cache
    def example(prize: str, fetched: str, words: str, whole: bool) -> TokenExample:
        world, call = PrizeWorld(prize), ToolCall("get", {"prize": fetched})
        result = agent.results([(call, world.call(call.name, call.arguments))])
        messages = (
            agent.system(world),
            Message("user", words.format(prize)),
            Message("assistant", f"GET {fetched}"),
            *((*result, Message("assistant", "Here.")) if whole else ()),
        )
        said = tuple(Said(message, message.role == "assistant") for message in messages[1:])
        row = Row("sft", Provenance("goal", "tree", "policy"), (), messages[:1], (Side(said, "desirable"),))
        return tokenizer.tokens(row).examples[0]

    def drawn() -> TokenExample:
        prize = draw.choice(PRIZES)
        fetched = draw.choice(PRIZES) if draw.random() < WRONG else prize
        return example(prize, fetched, draw.choice((TRAIN_WORDS, VAL_WORDS)), draw.random() < 0.1)

    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(STEPS):
        rows = [drawn() for _ in range(16)]
        width = max(len(row.input_ids) for row in rows)
        ids = torch.tensor([row.input_ids + (0,) * (width - len(row.input_ids)) for row in rows])
        labels = torch.tensor([row.labels + (IGNORED,) * (width - len(row.labels)) for row in rows])
        model(input_ids=ids, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    return folder


def policy_of(weights: Weights) -> LocalPolicy:
    renderer = ChatRenderer(weights.base)
    engine = TransformersEngine(
        weights, stop_ids=renderer.stop_ids, pad_id=pad_id(weights.base), max_batch=32, quantization="none"
    )
    return LocalPolicy(renderer, engine, weights.merged.name, 512)


def searched(weights: Weights, goals: Sequence[Wish]) -> list[Tree]:
    async def search() -> list[Tree]:
        policy, trees = policy_of(weights), list[Tree]()
        await rollouts(
            goals,
            lambda wish: PrizeWorld(wish.prize),
            lambda wish, seed, meter: WishingUser(wish),
            policy,
            TinyAgent(),
            SearchSettings(max_rounds=1, max_requests=2, max_tokens=8, in_flight=32),
            settings_digest="settings",
            seed=0,
            attempt=1,
            checkpoint=trees.extend,
            progress=SilentProgress(),
            ledger=Ledger(),
        )
        await policy.close()
        return trees

    return asyncio.run(search())


def played(weights: Weights, goals: Sequence[Wish]) -> list[Episode]:
    async def play() -> list[Episode]:
        policy = policy_of(weights)
        episodes = await evaluate(
            [(goal, 0) for goal in goals],  # type: ignore[misc]
            lambda wish: PrizeWorld(wish.prize),  # type: ignore[attr-defined]
            lambda wish, seed, meter: WishingUser(wish),  # type: ignore[arg-type]
            policy,
            TinyAgent(),
            EvaluationSettings(max_messages=2, max_requests=2, max_tokens=8),
            32,
            0,
            SilentProgress(),
            settings_digest="settings",
            ledger=Ledger(),
        )
        await policy.close()
        return episodes

    return asyncio.run(play())


def gate(before: Sequence[Episode], after: Sequence[Episode]) -> Gate:
    old, new = paired_values(*({one.goal_id: one.reward for one in side} for side in (before, after)))
    found = paired_bootstrap(old, new)
    means = sum(old) / found.n, sum(new) / found.n
    return Gate(found.n, *means, found.diff, found.low, found.high, drift=None, max_drift=1.5)


def shuffled(rows: Sequence[Row]) -> list[Row]:
    labels = [row.sides[0].label for row in rows]
    random.Random(0).shuffle(labels)
    return [replace(row, sides=(replace(row.sides[0], label=label),)) for row, label in zip(rows, labels, strict=True)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return taught(tmp_path_factory.mktemp("taught") / "base")


def test_shuffled_labels_are_stopped_by_the_gate_and_true_ones_pass(base: Path, tmp_path: Path) -> None:
    trees = searched(Weights(base, None, base), wishes(TRAIN_WORDS, 6))
    rows = harvest(trees, "kto", "messages", "paper", frozenset()).rows
    good = sum(row.good is not None for row in rows)
    assert min(good, len(rows) - good) > 30
    goals = wishes(VAL_WORDS, 1)
    before = played(Weights(base, None, base), goals)
    assert sum(episode.reward for episode in before) > 0.6 * len(before), "the base knows the task"

    def candidate(name: str, labelled: Sequence[Row]) -> Gate:
        adapter = train(labelled, base, None, tmp_path, KTO, 0, SilentProgress(), "none").adapter
        return gate(before, played(Weights(base, adapter, tmp_path / name), goals))

    true, false = candidate("true", rows), candidate("shuffled", shuffled(rows))
    assert true.passed, true.sentence
    assert false.regressed and not false.passed, false.sentence
