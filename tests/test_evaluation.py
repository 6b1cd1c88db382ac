"""Evaluation: greedy conversations on goals, and the score they give."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import pytest
from fakes import PrizeWorld, ScriptedPolicy, TinyAgent, TinyUser, failing, said
from report_samples import GOAL
from toolwoz_town import environment_of

from josh_pipeline.core.messages import Message
from josh_pipeline.core.policy import Policy
from josh_pipeline.core.progress import TaskState, ThrottledProgress
from josh_pipeline.core.world import CallRecord
from josh_pipeline.environments.toolwoz.goal import Goal
from josh_pipeline.environments.toolwoz.sample import sample_corpus
from josh_pipeline.evaluation.benchmark import Episode, evaluate
from josh_pipeline.evaluation.summary import score
from josh_pipeline.search.spending import Ledger
from josh_pipeline.search.tree import Usage
from josh_pipeline.settings import EvaluationSettings, Prices

GOALS = tuple(replace(GOAL, goal_id=f"goal-{index}") for index in range(5))


def play(
    policy: Policy,
    goals: Sequence[Goal] = GOALS,
    trials: int = 1,
    in_flight: int = 3,
    user_turns: int = 4,
    user_fails_at: int | None = None,
) -> list[Episode]:
    return asyncio.run(
        evaluate(
            [(goal, trial) for goal in goals for trial in range(trials)],
            lambda goal: PrizeWorld("ab"),
            lambda goal, seed, meter: TinyUser(turns=user_turns, fails_at=user_fails_at),
            policy,
            TinyAgent(),
            EvaluationSettings(max_messages=6),
            in_flight,
            7,
            ThrottledProgress(lambda snapshot: None, lambda text: None),
            settings_digest="settings",
            ledger=Ledger(agent_prices=Prices(prompt=1.0, completion=2.0)),
        )
    )


def test_every_goal_is_played_greedily_and_episodes_come_in_the_order_of_the_goals() -> None:
    policy = said("GET a", "GET b", "Here you are.")
    policy.delay = 0.01
    episodes = play(policy)
    assert [episode.goal_id for episode in episodes] == [goal.goal_id for goal in GOALS]
    assert {request.sampling.temperature for request in policy.asked} == {0.0}
    assert policy.most_in_flight == 3
    first = episodes[0]
    assert (first.reward, first.success, first.earned) == (1.0, True, (0, 1))
    assert [call.arguments["prize"] for call in first.calls] == ["a", "b"]
    assert (first.turns, first.error_turns, first.failure) == (3, 0, None)


def test_a_conversation_ends_with_the_user_or_at_the_limit_of_visible_messages() -> None:
    assert play(said("Hello."), user_turns=2)[0].user_done
    long = play(said("Hello."), user_turns=20)[0]
    assert not long.user_done
    assert long.turns == 3


def test_policies_meet_the_same_users_and_trials_meet_different_ones() -> None:
    one = play(said("GET a"), trials=2)
    other = play(replace(said("GET b"), digest="other"), trials=2)
    assert [episode.seed for episode in one] == [episode.seed for episode in other]
    assert len({episode.seed for episode in one}) == len(one) == 10
    assert not {e.episode_id for e in one} & {e.episode_id for e in other}


def test_what_fails_keeps_what_was_said_done_and_earned_before_it() -> None:
    def answer(request: object) -> str:
        if answers:
            return answers.pop(0)
        raise failing("timeout")

    answers = ["Hello.", "GET a"]
    episode = play(ScriptedPolicy(answer), goals=GOALS[:1])[0]
    assert (episode.failure, episode.reward, episode.earned) == ("timeout", 0.5, (0,))
    assert episode.failure_message == "A scripted timeout failure."
    assert [(message.role, message.content) for message in episode.messages] == [
        ("user", "Turn 0, I heard nothing."),
        ("assistant", "Hello."),
        ("user", "Turn 1, I heard Hello.."),
        ("assistant", "GET a"),
        ("tool", "{'rows': [{'prize': 'a'}]}"),
    ]
    assert [call.earned for call in episode.calls] == [(0,)]
    assert (episode.turns, episode.error_turns, episode.user_done) == (2, 0, False)


def test_a_user_that_fails_ends_the_conversation_with_what_was_said() -> None:
    episode = play(said("Hello."), goals=GOALS[:1], user_fails_at=1)[0]
    assert (episode.failure, episode.turns, len(episode.messages)) == ("user", 1, 2)


def test_each_conversation_counts_what_it_asked_of_the_model() -> None:
    policy = said("GET a", "GET b", "Here you are.")
    episodes = play(policy)
    assert sum(episode.usage.requests for episode in episodes) == len(policy.asked)
    usage = episodes[0].usage
    assert usage.completion_tokens == sum(
        len(message.content) for message in episodes[0].messages if message.role == "assistant"
    )
    assert usage.cost == pytest.approx((usage.prompt_tokens + 2 * usage.completion_tokens) / 1e6)
    assert usage.seconds > 0 and usage.failed_requests == 0


def test_progress_and_checkpoints_follow_each_episode() -> None:
    seen: list[TaskState] = []
    kept: list[Episode] = []
    asyncio.run(
        evaluate(
            [(goal, 0) for goal in GOALS],
            lambda goal: PrizeWorld("a"),
            lambda goal, seed, meter: TinyUser(turns=1),
            said("GET a"),
            TinyAgent(),
            EvaluationSettings(),
            2,
            0,
            ThrottledProgress(seen.append, lambda text: None),
            settings_digest="settings",
            ledger=Ledger(),
            task="Evaluating the cold start",
            finished=kept.append,
        )
    )
    assert [(s.task, s.done, s.finished) for s in seen] == [("Evaluating the cold start", 5, True)]
    assert len(kept) == 5


def called(tool: str, arguments: dict[str, object], refused: bool = False) -> CallRecord:
    payload = {"error": "no"} if refused else {"rows": []}
    return CallRecord(tool, arguments, payload, payload, refused, ())


def fault(call: CallRecord) -> str:
    """ToolWOZ's names for what was wrong with a call."""
    return environment_of(sample_corpus(20)).fault(call)


def episode(goal: str, earned: tuple[int, ...], *tools: str, **changes: object) -> Episode:
    calls = tuple(called(tool, {}, tool == "bad") for tool in tools)
    blank = Episode(
        episode_id=goal, goal_id=goal, policy_digest="p", seed=0, settings_digest="s", trial=0, messages=(),
        calls=calls, earned=earned, reward=len(earned) / 3, turns=4, error_turns=0, user_done=True,
        failure=None, failure_message=None, usage=Usage(4, 0, 900, 700, 40, 0, 0, 0, 0, 0.5, 1.5),
    )  # fmt: skip
    return replace(blank, **changes)


def test_the_score_breaks_rewards_down_by_domain_and_tool() -> None:
    goals = {goal.goal_id: goal for goal in GOALS}
    found = score(
        [episode("goal-0", (0, 1, 2)), episode("goal-1", (0, 1)), episode("goal-2", (2,)), episode("goal-3", ())],
        goals,
        fault,
    )
    assert (found.n, found.trials, found.success) == (4, 1, 0.25)
    assert found.reward == pytest.approx((1 + 2 / 3 + 1 / 3 + 0) / 4)
    assert (found.low, found.high) == pytest.approx((0.0456, 0.6994), abs=1e-4)
    domains = {b.name: (b.n, b.reward, b.success) for b in found.by["domain"]}
    assert domains == {"hotel": (4, 0.5, 0.5), "restaurant": (4, 0.5, 0.5)}
    assert {b.name: b.success for b in found.by["tool"]} == {
        "book_hotel": 0.5,
        "search_hotel": 0.5,
        "search_restaurant": 0.5,
    }


def test_each_conversation_without_success_has_one_class_of_error() -> None:
    found = score(
        [
            episode("goal-0", (), failure="timeout"),
            episode("goal-1", (0,), "search_hotel", "bad"),
            episode("goal-2", (0,), "search_hotel", "book_hotel"),
            episode("goal-3", (), "search_hotel", error_turns=2),
            episode("goal-4", (0, 1, 2)),
        ],
        {goal.goal_id: goal for goal in GOALS},
        fault,
    )
    assert found.errors == {"failed: timeout": 1, "booking not made": 1, "booking wrong": 1, "search wrong": 1}
    assert sum(found.errors.values()) == 4
    assert found.faulty_calls == pytest.approx(1 / 5)
    assert found.error_turns == pytest.approx(2 / 20)


def test_searches_and_bookings_are_told_apart_and_faults_are_counted_by_kind() -> None:
    calls = (
        called("find_hotel", {}, True),
        called("search_hotel", {"stars": "4", "colour": "red"}, True),
        called("search_hotel", {"stars": ["4"]}, True),
        called("search_hotel", {"stars": "4"}),
    )
    talk = (
        Message("user", "Hi."),
        Message("assistant", "{broken"),
        Message("tool", "Write a call or a sentence.", error=True),
        Message("assistant", "Sorry."),
        Message("user", "Bye."),
    )
    found = score(
        [episode("goal-0", (0, 2), calls=calls, messages=talk), episode("goal-1", (), failure="timeout")],
        {goal.goal_id: goal for goal in GOALS},
        fault,
    )
    assert {b.name: (b.n, b.reward, b.success) for b in found.by["act"]} == {
        "booking": (2, 0.0, 0.0),
        "search": (2, 0.5, 0.5),
    }
    assert found.faults == {
        "unknown tool": 1,
        "unknown parameter": 1,
        "value that is no text": 1,
        "unreadable reply": 1,
    }
    assert (found.calls, found.faulty_calls) == (4, 0.75)
    assert found.failures == {"timeout": 1}
    assert (found.usage.requests, found.usage.prompt_tokens, found.usage.cost) == (8, 1800, 1.0)


def test_trials_of_a_goal_give_pass_hat_k_and_do_not_narrow_the_interval() -> None:
    goals = {goal.goal_id: goal for goal in GOALS}
    twice = [
        replace(episode(goal, (0, 1, 2) if wins > trial else ()), trial=trial)
        for goal, wins in (("goal-0", 2), ("goal-1", 1))
        for trial in (0, 1)
    ]
    found = score(twice, goals, fault)
    assert (found.n, found.trials, found.success) == (2, 2, 0.75)
    assert found.pass_k == (0.75, 0.5)
    assert found.high - found.low > 0.6
    for part in chain(*found.by.values()):
        assert (part.n, part.reward, part.success) == (2, 0.75, 0.75)
        assert (part.low, part.high) == (found.low, found.high)


def test_episodes_that_cannot_be_summed_up_are_refused() -> None:
    goals = {goal.goal_id: goal for goal in GOALS}
    with pytest.raises(ValueError, match="2 policies"):
        score([episode("goal-0", ()), episode("goal-1", (), policy_digest="q")], goals, fault)
    with pytest.raises(ValueError, match="trials a goal"):
        score([episode("goal-0", ()), episode("goal-1", ()), episode("goal-1", (), trial=1)], goals, fault)
    with pytest.raises(ValueError, match="0 episodes"):
        score([], goals, fault)
