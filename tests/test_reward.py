"""The reward is what the world says a conversation was worth, and what is no reward is a failure everywhere."""

import asyncio
import copy

import pytest
from fakes import PrizeWorld, TinyAgent, TinyUser, choosing, grow, said
from fakes import ScriptedPolicy as Scripted

from josh_pipeline.core.environment import Task
from josh_pipeline.core.errors import RolloutError
from josh_pipeline.core.messages import Conversation
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.core.world import judged
from josh_pipeline.evaluation.benchmark import Episode, evaluate
from josh_pipeline.harvest.harvest import harvest
from josh_pipeline.harvest.labels import disagreements, relabel
from josh_pipeline.search.spending import Ledger
from josh_pipeline.settings import EvaluationSettings

TASK = Task("goal", "source", "", "val", "task", "A task", (), (), None)
NO_REWARDS = (float("nan"), float("inf"), -0.1, 1.5, "much", None)


class Valued(PrizeWorld):
    """Worth what a test says, whatever was earned."""

    worth: object = 0.0

    def fork(self) -> "Valued":
        return copy.deepcopy(self)

    def outcome(self, conversation: Conversation) -> float:
        return self.worth  # type: ignore[return-value]


def valued(worth: object) -> Valued:
    world = Valued("ab")
    world.worth = worth
    return world


def conversation_in(world: PrizeWorld) -> Episode:
    (episode,) = asyncio.run(
        evaluate(
            [(TASK, 0)], lambda task: world, lambda *_: TinyUser(), said("GET a b", "here"), TinyAgent(),
            EvaluationSettings(), 1, 0, SilentProgress(), settings_digest="settings", ledger=Ledger(),
        )
    )  # fmt: skip
    return episode


@pytest.mark.parametrize("worth", NO_REWARDS)
def test_what_is_no_reward_fails_the_tree_and_the_conversation_and_trains_nothing(worth: object) -> None:
    tree = grow(said("GET a b", "here"), world=valued(worth), beam_size=1)
    assert (tree.failure, tree.reward) == ("world", 0.0) and tree.golden_end is not None
    assert disagreements(tree, relabel(tree, valued(worth))) == []
    for mode in ("paper", "partial"):
        assert harvest([tree], "sft", "conversations", mode, frozenset()).refused == {"too_little_reward": 1}
    episode = conversation_in(valued(worth))
    assert (episode.failure, episode.reward, episode.success) == ("world", 0.0, False)


def test_a_value_outside_of_a_reward_is_named() -> None:
    with pytest.raises(RolloutError, match=r"The outcome is 1\.5, and a reward lies in \[0, 1\]"):
        judged(valued(1.5), ())
    assert judged(valued(True), ()) == 1.0


def test_a_conversation_that_earned_milestones_and_is_worth_nothing_is_not_learned_from() -> None:
    tree = grow(said("GET a b", "here"), world=valued(0.0), beam_size=1)
    assert tree.earned == (0, 1) and tree.failure is None
    for kind in ("conversations", "messages", "pairs"):
        assert harvest([tree], "any", kind, "partial", frozenset()).rows == ()


def test_a_conversation_that_earned_half_of_the_milestones_and_is_worth_all_is_learned_from() -> None:
    tree = grow(said("GET a", "here", "bye"), world=valued(1.0), beam_size=1, max_rounds=2)
    assert tree.earned == (0,) and tree.reward == 1.0
    assert len(harvest([tree], "sft", "conversations", "paper", frozenset()).rows) == 1
    episode = conversation_in(valued(1.0))
    assert episode.success


class Breaking(PrizeWorld):
    """Breaks at a hand-over once ``a`` was got, and cannot say what was earned once ``b`` was."""

    def fork(self) -> "Breaking":
        return copy.deepcopy(self)

    def hand_over(self) -> None:
        if 0 in super().milestones():
            raise ZeroDivisionError

    def milestones(self) -> frozenset[int]:
        if 1 in super().milestones():
            raise KeyError("b")
        return super().milestones()


@pytest.mark.parametrize("step_by", ["turn", "action"])
@pytest.mark.parametrize("text", ["GET a", "GET b", "GET a b"])
def test_a_world_that_breaks_ends_its_branch_and_the_labels_agree(text: str, step_by: str) -> None:
    policy = Scripted(choosing(text, "hello"))
    tree = grow(policy, world=Breaking("abc"), beam_size=4, step_by=step_by, max_rounds=3, max_requests=2, seed=3)
    broken = [node for node in tree.nodes if node.failure]
    assert broken and all(node.failure == "world" for node in broken)
    assert disagreements(tree, relabel(tree, Breaking("abc"))) == []
