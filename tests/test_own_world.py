"""A class of one's own as a world: its tools, what it earns, how it is forked, and what it breaks."""

import gc
from collections.abc import Mapping
from typing import Any

import pytest
from fakes import ScriptedPolicy, choosing, grow, in_round, said
from own_classes import Broken, Clock, Counter, Forked, Locked, Mutating, Replayed, Silent, Stepper, Untyped

from josh_pipeline.core.errors import RolloutError, UserError
from josh_pipeline.core.promises import check_playable
from josh_pipeline.core.world import called, judged
from josh_pipeline.environments.own.environment import OwnSettings, environment_of
from josh_pipeline.environments.own.kit import Kit, require_playable
from josh_pipeline.environments.own.world import OwnWorld
from josh_pipeline.harvest.labels import disagreements, relabel


def world_of(cls: type, seconds: float = 10.0, **given: Any) -> OwnWorld:
    return OwnWorld(Kit(cls, seconds), given)


def add(world: OwnWorld, number: Any, **more: Any) -> Any:
    return called(world, "add", {"number": number, **more}).payload


def failure(world: OwnWorld, number: int) -> str:
    with pytest.raises(RolloutError) as fault:
        add(world, number)
    assert fault.value.kind == "world"
    return fault.value.message


def test_public_methods_are_tools_and_what_has_another_meaning_is_none() -> None:
    world = world_of(Counter)
    assert [tool.name for tool in world.tools] == ["add"]
    tool = world.tools[0]
    assert tool.description == "Add a number."
    assert tool.parameters["required"] == ["number"]
    assert tool.properties["how"]["enum"] == ["up", "down"]


def test_the_agent_is_told_the_docstring_or_the_instructions_and_what_reset_says() -> None:
    assert world_of(Counter, goal=3).instructions == "You count to what is asked for.\nCount to 3."
    assert world_of(Stepper).instructions == "Go step by step.\nCount to 2."


@pytest.mark.parametrize(
    ("tool", "arguments", "said"),
    [
        ("sub", {}, "There is no tool 'sub'; use one of add."),
        ("success", {}, "There is no tool 'success'; use one of add."),
        ("add", {}, "add needs number."),
        ("add", {"number": "2"}, "number of add must be a whole number."),
        ("add", {"number": True}, "number of add must be a whole number."),
        ("add", {"number": 2, "how": "on"}, "how of add must be one of up, down."),
        ("add", {"number": 2, "by": 1}, "add has no parameter 'by'; its parameters: number, how."),
        ("add", {"number": 10}, "one digit"),
    ],
)
def test_a_faulty_call_and_a_value_error_are_told_to_the_agent(
    tool: str, arguments: Mapping[str, Any], said: str
) -> None:
    result = world_of(Counter).call(tool, arguments)
    assert result.error and result.payload == {"error": said}


def test_success_is_one_milestone_and_the_reward() -> None:
    world = world_of(Counter)
    assert world.all_milestones == {0}
    add(world, 1)
    assert (world.milestones(), judged(world, ())) == (frozenset(), 0.0)
    add(world, 1)
    assert (world.milestones(), judged(world, ())) == ({0}, 1.0)
    add(world, 1)
    assert (world.milestones(), judged(world, ())) == ({0}, 0.0), "what was earned stays, the reward is of the end"


def test_a_void_world_earns_nothing_any_more() -> None:
    world = world_of(Counter)
    add(world, 1, how="down")
    assert world.void
    add(world, 3)
    assert (world.void, world.milestones(), judged(world, ())) == (True, frozenset(), 0.0)


def test_milestones_by_name_are_the_reward_by_their_share_and_tools_change_at_a_hand_over() -> None:
    world = world_of(Stepper)
    assert world.all_milestones == {0, 1}
    add(world, 1)
    assert (world.milestones(), judged(world, ())) == ({0}, 0.5)
    assert [tool.name for tool in world.tools] == ["add"] and world.call("more", {}).error
    world.hand_over()
    assert [tool.name for tool in world.tools] == ["add", "more"] and world.call("more", {}).payload == "went on"


@pytest.mark.parametrize("cls", [Counter, Forked, Replayed])
def test_a_fork_is_in_the_same_state_and_shares_nothing(cls: type) -> None:
    world = world_of(cls)
    add(world, 1)
    fork = world.fork()
    assert add(fork, 1) == {"count": 2} and fork.milestones() == {0}
    assert world.milestones() == frozenset()
    assert add(world, 3) == {"count": 4} and judged(fork, ()) == 1.0


def test_what_cannot_be_copied_is_refused_before_anything_is_played_and_says_what_to_do() -> None:
    class Shop(Locked):
        """One task."""

        tasks = ({"text": "Two, please."},)

    environment = environment_of(Shop)(OwnSettings(name="shop:Shop"))
    with pytest.raises(UserError, match=r'Shop cannot be copied .*define fork\(\), or set fork = "replay"'):
        check_playable(environment, environment.tasks()[0])


def test_a_replay_with_another_result_names_the_call() -> None:
    world = world_of(Clock)
    add(world, 1)
    with pytest.raises(
        RolloutError, match=r'Call 1 of the branch, add\(\{"number": 1\}\), gave .* when it was repeated'
    ):
        world.fork()


def test_a_success_that_changes_the_state_is_a_failure_and_no_silent_zero() -> None:
    world = world_of(Mutating)
    add(world, 2)
    assert world.milestones() == {0}
    with pytest.raises(RolloutError, match="success says 0 where it said 1, and nothing was called between"):
        judged(world, ())


def test_what_a_tool_breaks_is_one_sentence_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert "raised KeyError: 0: let it raise ValueError where" in failure(world_of(Broken), 0)
    assert "returned what JSON cannot hold" in failure(world_of(Broken), 1)
    assert "returned 200,002 characters of JSON, and 100,000 are the limit" in failure(world_of(Broken), 2)
    assert add(world_of(Broken), 5) == "fine"
    printed = capsys.readouterr()
    assert printed.out == "" and "a print" in printed.err


@pytest.mark.parametrize("number", [3, 4])
def test_a_call_that_never_returns_is_given_up_and_others_go_on(number: int) -> None:
    assert "took longer than the 1 seconds of call_seconds" in failure(world_of(Broken, seconds=1.0), number)
    assert add(world_of(Broken), 5) == "fine"


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (Untyped, r"Untyped.take cannot be a tool \(Argument what is missing a type hint"),
        (Silent, r"Silent.hush cannot be a tool \(Cannot generate JSON schema for hush because it has no docstring"),
    ],
)
def test_a_method_that_says_too_little_is_named(cls: type, said: str) -> None:
    with pytest.raises(UserError, match=said):
        world_of(cls)


def test_a_class_without_reset_or_reward_is_no_environment() -> None:
    with pytest.raises(UserError, match=r"int is no environment: give it reset\(\) and success\(\) or milestones\(\)"):
        require_playable(int)


def test_an_instance_is_closed_once_nobody_needs_its_world() -> None:
    before = Counter.closed
    world = world_of(Counter)
    twin = world.fork()
    del world
    gc.collect()
    assert Counter.closed == before + 1
    del twin
    gc.collect()
    assert Counter.closed == before + 2


class Prizes:
    """Get the prize."""

    def reset(self) -> None:
        self.won: list[str] = []

    def get(self, prize: str) -> dict[str, str]:
        """Get a prize.

        Args:
            prize: its name.
        """
        self.won.append(prize)
        return {"got": prize}

    def success(self) -> bool:
        return "b" in self.won

    def fork(self) -> Any:
        if self.won:
            raise RuntimeError("the copier is out of paper")
        twin = Prizes()
        twin.reset()
        return twin


def test_a_fork_that_breaks_in_a_search_fails_its_branches_and_the_labels_agree() -> None:
    tree = grow(said("GET a", "Here."), world=world_of(Prizes), max_rounds=3)
    failed = in_round(tree, 2)
    assert {node.failure for node in failed} == {"world"} and tree.failure == "world"
    assert failed[0].failure_message == "Prizes.fork raised RuntimeError: the copier is out of paper"
    assert disagreements(tree, relabel(tree, world_of(Prizes))) == []


def test_a_search_finds_what_succeeds() -> None:
    tree = grow(ScriptedPolicy(choosing("GET a", "GET b", "Here.")), world=world_of(Counting))
    assert tree.reward == 1.0 and tree.earned == (0,)
    assert disagreements(tree, relabel(tree, world_of(Counting))) == []


class Counting(Prizes):
    """Get the prize, again."""

    fork = "replay"
