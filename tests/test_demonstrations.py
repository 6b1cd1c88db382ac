"""The scripted agent: with care it solves what the user tells it, without it writes demonstrations."""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from toolwoz_town import environment_of

from josh_pipeline.core.environment import Carelessness
from josh_pipeline.core.policy import Completion
from josh_pipeline.dialogue.agents import make_agent
from josh_pipeline.dialogue.demonstrations import Ceiling, Demonstration, demonstrate, user_ceiling
from josh_pipeline.environments.toolwoz.corpus import Corpus
from josh_pipeline.environments.toolwoz.environment import ToolWoz
from josh_pipeline.environments.toolwoz.goal import Goal
from josh_pipeline.environments.toolwoz.reader import read_corpus
from josh_pipeline.environments.toolwoz.sample import sample_corpus

CLEAN = Carelessness()
CARELESS = Carelessness(claimed=0.5, dropped=0.3, denied=0.15)
"""As the settings' defaults."""


def playable(corpus: Corpus, parts: bool) -> tuple[list[Goal], ToolWoz]:
    environment = environment_of(corpus, parts=parts)
    kind = environment.played
    return [goal for goal in environment.tasks() if goal.kind == kind and not goal.excluded], environment


def reached(corpus: Corpus, parts: bool, seed: int) -> tuple[list[Goal], Ceiling]:
    goals, environment = playable(corpus, parts)
    ceiling = asyncio.run(
        user_ceiling(environment, goals, lambda goal: seed, max_turns=8, max_messages=15, max_requests=3)
    )
    assert ceiling is not None
    return goals, ceiling


def demonstrated(
    environment: ToolWoz, goals: Iterable[Goal], careless: Carelessness = CARELESS, seed: int = 0, turns: int = 8
) -> list[Demonstration]:
    return asyncio.run(demonstrate(environment, list(goals), careless, seed, turns))


@pytest.fixture(scope="module")
def sample() -> Corpus:
    return sample_corpus(200)


@pytest.fixture(scope="module")
def multiwoz(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    if "JOSH_MULTIWOZ" not in os.environ:
        pytest.skip("JOSH_MULTIWOZ names no MultiWOZ folder")
    return read_corpus(os.environ["JOSH_MULTIWOZ"], Path(tmp_path_factory.mktemp("cache")))


@pytest.mark.parametrize("parts", [True, False])
def test_the_user_lets_a_perfect_agent_solve_the_sample(sample: Corpus, parts: bool) -> None:
    goals, ceiling = reached(sample, parts, seed=1)
    assert ceiling.n == len(goals) > 100
    assert ceiling.share >= 0.99, ceiling.failures
    assert ceiling.full_reward + len(ceiling.failures) == ceiling.n


@pytest.mark.parametrize("parts", [True, False])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_user_lets_a_perfect_agent_solve_multiwoz(multiwoz: Corpus, parts: bool, seed: int) -> None:
    _, ceiling = reached(multiwoz, parts, seed)
    assert ceiling.n > 700
    assert ceiling.share >= 0.99, ceiling.failures


def test_careless_demonstrations_fail_often_but_not_always(sample: Corpus) -> None:
    goals, environment = playable(sample, parts=True)
    rewards = [d.reward for d in demonstrated(environment, goals)]
    assert 0.5 < sum(reward == 1 for reward in rewards) / len(rewards) < 0.8
    booked = [r for g, r in zip(goals, rewards, strict=True) if len(g.calls) == 2]
    assert 0.3 < sum(reward == 1 for reward in booked) / len(booked) < 0.6


def test_demonstrations_are_short_well_formed_and_begin_with_the_system_message(sample: Corpus) -> None:
    goals, environment = playable(sample, parts=True)
    agent = make_agent("compact", "compact")
    demonstrations = demonstrated(environment, goals)
    lengths = []
    for goal, demonstration in zip(goals, demonstrations, strict=True):
        assert demonstration.conversation[0] == agent.system(environment.world(goal))
        spoken = [m for m in demonstration.conversation if m.role == "assistant"]
        lengths.append(len(spoken))
        for message in spoken:
            reply = agent.read(Completion(message.content, (), None, "stop", 0, 0, 0, None))
            assert reply.fault is None and reply.message == message
    assert 4 <= sum(lengths) / len(lengths) <= 6


def test_demonstrations_depend_on_goal_and_seed_alone(sample: Corpus) -> None:
    goals, environment = playable(sample, parts=True)
    some, fewer = goals[:20], goals[10:20]
    first = demonstrated(environment, some, seed=4)
    assert demonstrated(environment, fewer, seed=4) == first[10:]
    assert demonstrated(environment, some, seed=5) != first


def test_the_scripted_agent_calls_with_nothing_that_the_user_has_not_said(sample: Corpus) -> None:
    goals, environment = playable(sample, parts=True)
    for demonstration in demonstrated(environment, goals[:80], CLEAN):
        heard = ""
        for message in demonstration.conversation:
            if message.role in ("user", "tool"):
                heard += message.content + "\n"
            for call in message.tool_calls:
                for slot, value in call.arguments.items():
                    named = slot in heard if value in ("yes", "no") else value in heard
                    assert named, (call, heard)


def test_a_prompt_is_the_same_text_for_all_goals_with_the_same_tools(sample: Corpus) -> None:
    goals, environment = playable(sample, parts=True)
    agent = make_agent("compact", "compact")
    systems = {(goal.part, agent.system(environment.world(goal)).content) for goal in goals}
    assert len(systems) == 4


def test_a_user_that_runs_out_of_turns_leaves_in_silence(sample: Corpus) -> None:
    goals, environment = playable(sample, parts=False)
    demonstrations = demonstrated(environment, goals[:40], turns=4)
    said = [sum(m.role == "user" for m in d.conversation) for d in demonstrations]
    assert max(said) == 4
