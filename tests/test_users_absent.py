"""A user that cannot be made fails its own conversation, typed, and no other."""

import asyncio
from dataclasses import replace

from fakes import PrizeWorld, TinyAgent, TinyUser, said
from report_samples import GOAL

from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.core.user import User
from josh_pipeline.dialogue.users import ScriptUser
from josh_pipeline.environments.toolwoz.goal import Goal
from josh_pipeline.evaluation.benchmark import evaluate
from josh_pipeline.search.rollouts import rollouts
from josh_pipeline.search.spending import Ledger
from josh_pipeline.search.tree import Tree
from josh_pipeline.settings import EvaluationSettings, SearchSettings

GOALS = tuple(replace(GOAL, goal_id=f"goal-{number}") for number in range(4))


def users(goal: Goal, seed: int, meter: object) -> User:
    """Three of the four are there: one breaks while it is made, one has nothing to say."""
    if goal.goal_id == "goal-1":
        raise KeyError("text")
    if goal.goal_id == "goal-2":
        return ScriptUser(())
    return TinyUser()


def test_a_user_that_cannot_be_made_leaves_a_failed_tree_and_the_others_grow() -> None:
    trees: list[Tree] = []
    summary = asyncio.run(
        rollouts(
            GOALS,
            lambda goal: PrizeWorld("a"),
            users,
            said("GET a"),
            TinyAgent(),
            SearchSettings(max_failed_share=0.5),
            settings_digest="settings",
            seed=0,
            attempt=0,
            checkpoint=trees.extend,
            progress=SilentProgress(),
            ledger=Ledger(),
        )
    )
    assert (summary.finished, summary.solved, summary.failures) == (4, 2, {"user": 2})
    messages = {tree.goal_id: tree.failure_message for tree in trees if tree.failure == "user"}
    assert messages == {
        "goal-1": "Making the user raised KeyError: 'text'",
        "goal-2": "The task holds no words to repeat.",
    }


def test_a_user_that_cannot_be_made_leaves_a_failed_episode_and_the_others_are_played() -> None:
    episodes = asyncio.run(
        evaluate(
            [(goal, 0) for goal in GOALS],
            lambda goal: PrizeWorld("a"),
            users,
            said("GET a"),
            TinyAgent(),
            EvaluationSettings(max_messages=6),
            2,
            0,
            SilentProgress(),
            settings_digest="settings",
            ledger=Ledger(),
        )
    )
    assert [episode.failure for episode in episodes] == [None, "user", "user", None]
    assert [episode.messages for episode in episodes[1:3]] == [(), ()]
    assert [episode.success for episode in episodes] == [True, False, False, True]
