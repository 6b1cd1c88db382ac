"""The scripted agent: with care it solves what the user tells it, without it writes demonstrations."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from josh_pipeline.core.policy import Completion
from josh_pipeline.dialogue.agents import make_agent
from josh_pipeline.environments.toolwoz.ceiling import user_ceiling
from josh_pipeline.environments.toolwoz.demonstrations import demonstrate
from josh_pipeline.environments.toolwoz.goal import Goal
from josh_pipeline.environments.toolwoz.goals import derive_goals
from josh_pipeline.environments.toolwoz.load import load_corpus
from josh_pipeline.environments.toolwoz.corpus import Corpus
from josh_pipeline.environments.toolwoz.world import ToolWozWorld, worlds
from josh_pipeline.settings import ColdStartSettings

CLEAN = ColdStartSettings(claimed_bookings=0, dropped_constraints=0, false_no_match=0)

LIMITS = {"max_turns": 8, "max_messages": 15, "max_requests": 3}


def playable(corpus: Corpus, parts: bool) -> tuple[list[Goal], Callable[[Goal], ToolWozWorld]]:
    goals = [goal for goal in derive_goals(corpus, "audited", parts=parts) if goal.excluded is None]
    return goals, worlds(corpus, "audited")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return load_corpus("sample", tmp_path_factory.mktemp("cache"), sample_dialogues=200)


@pytest.fixture(scope="module")
def multiwoz(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    if "JOSH_MULTIWOZ" not in os.environ:
        pytest.skip("JOSH_MULTIWOZ names no MultiWOZ folder")
    return load_corpus(os.environ["JOSH_MULTIWOZ"], Path(tmp_path_factory.mktemp("cache")))


@pytest.mark.parametrize("parts", [True, False])
def test_the_user_lets_a_perfect_agent_solve_the_sample(sample: Corpus, parts: bool) -> None:
    goals, world_of = playable(sample, parts)
    ceiling = asyncio.run(user_ceiling(goals, world_of, lambda goal: 1, **LIMITS))
    assert ceiling.n == len(goals) > 100
    assert ceiling.share >= 0.99, ceiling.failures
    assert ceiling.full_reward + len(ceiling.failures) == ceiling.n


@pytest.mark.parametrize("parts", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_user_lets_a_perfect_agent_solve_multiwoz(multiwoz: Corpus, parts: bool, seed: int) -> None:
    goals, world_of = playable(multiwoz, parts)
    ceiling = asyncio.run(user_ceiling(goals, world_of, lambda goal: seed, **LIMITS))
    assert ceiling.n > 700
    assert ceiling.share >= 0.99, ceiling.failures


def test_careless_demonstrations_fail_often_but_not_always(sample: Corpus) -> None:
    goals, world_of = playable(sample, parts=True)
    rewards = [d.reward for d in asyncio.run(demonstrate(goals, world_of, ColdStartSettings(), 0, 8))]
    assert 0.5 < sum(reward == 1 for reward in rewards) / len(rewards) < 0.8
    booked = [r for g, r in zip(goals, rewards, strict=True) if len(g.calls) == 2]
    assert 0.3 < sum(reward == 1 for reward in booked) / len(booked) < 0.6


def test_demonstrations_are_short_well_formed_and_begin_with_the_system_message(sample: Corpus) -> None:
    goals, world_of = playable(sample, parts=True)
    agent = make_agent("compact", "compact")
    demonstrations = asyncio.run(demonstrate(goals, world_of, ColdStartSettings(), 0, 8))
    lengths = []
    for goal, demonstration in zip(goals, demonstrations, strict=True):
        assert demonstration.conversation[0] == agent.system(world_of(goal))
        spoken = [m for m in demonstration.conversation if m.role == "assistant"]
        lengths.append(len(spoken))
        for message in spoken:
            reply = agent.read(Completion(message.content, (), None, "stop", 0, 0, 0, None))
            assert reply.fault is None and reply.message == message
    assert 4 <= sum(lengths) / len(lengths) <= 6


def test_demonstrations_depend_on_goal_and_seed_alone(sample: Corpus) -> None:
    goals, world_of = playable(sample, parts=True)
    some, fewer = goals[:20], goals[10:20]
    first = asyncio.run(demonstrate(some, world_of, ColdStartSettings(), 4, 8))
    assert asyncio.run(demonstrate(fewer, world_of, ColdStartSettings(), 4, 8)) == first[10:]
    assert asyncio.run(demonstrate(some, world_of, ColdStartSettings(), 5, 8)) != first


def test_the_scripted_agent_calls_with_nothing_that_the_user_has_not_said(sample: Corpus) -> None:
    goals, world_of = playable(sample, parts=True)
    for demonstration in asyncio.run(demonstrate(goals[:80], world_of, CLEAN, 0, 8)):
        heard = ""
        for message in demonstration.conversation:
            if message.role in ("user", "tool"):
                heard += message.content + "\n"
            for call in message.tool_calls:
                for slot, value in call.arguments.items():
                    named = slot in heard if value in ("yes", "no") else value in heard
                    assert named, (call, heard)


def test_a_prompt_is_the_same_text_for_all_goals_with_the_same_tools(sample: Corpus) -> None:
    goals, world_of = playable(sample, parts=True)
    agent = make_agent("compact", "compact")
    systems = {(goal.part, agent.system(world_of(goal)).content) for goal in goals}
    assert len(systems) == 4


def test_a_user_that_runs_out_of_turns_leaves_in_silence(sample: Corpus) -> None:
    goals, world_of = playable(sample, parts=False)
    demonstrations = asyncio.run(demonstrate(goals[:40], world_of, ColdStartSettings(), 0, 4))
    said = [sum(m.role == "user" for m in d.conversation) for d in demonstrations]
    assert max(said) == 4
