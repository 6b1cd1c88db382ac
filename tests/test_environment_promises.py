"""What an environment breaks is one sentence before anything is played, and later the failure of one conversation."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from fakes import PrizeWorld, ScriptedPolicy, TinyAgent, TinyUser, said
from till import CHARGE, NAME, PoliteTill, Till, TillWorld

from josh_pipeline.core.environment import EnvironmentSettings, Task, WantedCall
from josh_pipeline.core.errors import RolloutError, UserError
from josh_pipeline.core.messages import Conversation
from josh_pipeline.core.oracle import solved_by_oracle
from josh_pipeline.core.policy import Sampling
from josh_pipeline.core.promises import check_playable, kept_tasks
from josh_pipeline.core.user import User
from josh_pipeline.core.world import Tool, ToolResult, World
from josh_pipeline.dialogue.conversation import converse
from josh_pipeline.search.selection import rollout_goals

SETTINGS = EnvironmentSettings(name=NAME)
TASKS = Till(SETTINGS).tasks()


class Given(Till):
    """Tasks from outside."""

    def __init__(self, *tasks: Any) -> None:
        super().__init__(SETTINGS)
        self.given = tasks

    def tasks(self) -> Sequence[Task]:
        return self.given


class Selling(Till):
    """A world from outside, and perhaps a user."""

    def __init__(self, made: type[TillWorld]) -> None:
        super().__init__(SETTINGS)
        self.made = made

    def world(self, task: Task, *, searching: bool = False) -> World:
        return self.made(3)


@pytest.mark.parametrize(
    ("tasks", "sentence"),
    [
        ((TASKS[0], TASKS[0]), "Goal id 'sell-tea' names several tasks: let"),
        ((replace(TASKS[0], role="dev"),), "has the role 'dev': use train, val, test"),  # type: ignore[arg-type]
        ((replace(TASKS[0], kind="sale"),), "has the kind 'sale': name it in the kinds"),
        ((TASKS[0], replace(TASKS[0], goal_id="again", role="val")), "Source 'tea' has tasks of several roles: give"),
        (("tea",), "holds a str: let it return instances of Task"),
        ((replace(TASKS[0], calls=(WantedCall("charge", {"amount": {3}}),)),), "Making the tasks failed .*set"),
    ],
)
def test_tasks_that_cannot_be_are_refused_in_one_sentence(tasks: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        kept_tasks(Given(*tasks))


class Worthless(TillWorld):
    def outcome(self, conversation: Conversation) -> float:
        return float("nan")


class Generous(TillWorld):
    def outcome(self, conversation: Conversation) -> float:
        return 2.0


class Aimless(TillWorld):
    all_milestones = frozenset()


class Shapeless(TillWorld):
    @property
    def tools(self) -> tuple[Tool, ...]:
        return (replace(CHARGE, parameters={"properties": {"amount": True}}),)


class Closed(TillWorld):
    def __init__(self, price: int) -> None:
        raise ValueError("closed on Mondays")


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (Worthless, "The world of task sell-tea: The outcome is nan, and a reward lies in"),
        (Generous, r"The outcome is 2\.0"),
        (Aimless, "has the role train and no milestones"),
        (Shapeless, "parameter amount of charge has no JSON Schema"),
        (Closed, "The world of task sell-tea failed .ValueError: closed on Mondays.: mend"),
    ],
)
def test_a_world_that_cannot_be_played_is_refused_before_anything_is_played(
    made: type[TillWorld], sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        check_playable(Selling(made), TASKS[0])


def test_what_keeps_its_promises_passes() -> None:
    for environment in (Till(SETTINGS), PoliteTill(SETTINGS)):
        for task in kept_tasks(environment):
            check_playable(environment, task)


def test_a_user_that_cannot_be_made_is_refused() -> None:
    class Empty(Till):
        def user(self, task: Task, seed: int, max_turns: int) -> User:
            raise ValueError("nobody")

    with pytest.raises(UserError, match="The user of task sell-tea failed"):
        check_playable(Empty(SETTINGS), TASKS[0])


class Locked(TillWorld):
    """The receipt is asked for, which is there only once the turn of the charge has ended."""

    @property
    def all_milestones(self) -> frozenset[int]:  # type: ignore[override]
        return frozenset({0, 1})

    def hand_over(self) -> None:
        """Nothing is earned here."""
        self.open = 0 in self.earned

    def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        if tool == "receipt":
            if not getattr(self, "open", False):
                return ToolResult("There is no receipt.", error=True)
            self.earned |= {1}
            return ToolResult({"printed": True})
        return super().call(tool, arguments)

    def outcome(self, conversation: Conversation) -> float:
        return len(self.earned) / 2


def test_an_oracle_makes_each_call_in_a_turn_of_its_own() -> None:
    task = replace(TASKS[0], calls=(WantedCall("charge", {"amount": 3}), WantedCall("receipt", {})))
    found = solved_by_oracle(Selling(Locked), task)
    assert found is not None and found.solvable and found.missed == ()


def test_where_the_oracle_solves_nothing_the_search_says_so() -> None:
    with pytest.raises(UserError, match="None where words decide too"):
        rollout_goals([], 4, set(), 0, {}, {})


def failure_of(policy: ScriptedPolicy, user: User, world: World) -> RolloutError | None:
    """Hold a short conversation and return what it failed with."""
    limits = {"max_requests": 1, "max_messages": 4}
    talk = asyncio.run(
        converse(
            policy, TinyAgent(), user, world, sampling=Sampling(0.0, 8), seed=lambda turn, request: request, **limits
        )
    )
    return talk.failure


class Odd(PrizeWorld):
    """Every call gives what no store can hold."""

    def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        return ToolResult({1, 2})


def test_a_result_that_json_cannot_hold_ends_its_conversation_alone() -> None:
    failure = failure_of(said("GET a"), TinyUser(), Odd("ab"))
    assert failure is not None and failure.kind == "world"
    assert failure.message.startswith("The tool get gave a payload that JSON cannot hold")


class Speechless:
    """Forgets to make a reply of its words."""

    async def reply(self, conversation: Conversation) -> Any:
        return "Hello."


def test_a_user_that_gives_no_reply_is_a_failure_of_the_user() -> None:
    failure = failure_of(said("hello"), Speechless(), PrizeWorld("a"))
    assert failure is not None and failure.kind == "user"
    assert failure.message == "The user gave a str, and no UserReply with a text."
