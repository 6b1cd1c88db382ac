import asyncio
import random

import pytest
from fakes import (
    LEVERS,
    MoodyWorld,
    ScriptedPolicy,
    TinyUser,
    after_call,
    by_path,
    chance,
    choosing,
    failing,
    grow,
    in_round,
    last_text,
    said,
)  # fmt: skip
from hypothesis import given, settings
from hypothesis import strategies as st

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.messages import Conversation
from josh_pipeline.core.policy import Completion, Request
from josh_pipeline.core.user import UserReply
from josh_pipeline.search.concurrency import Limiter
from josh_pipeline.search.spending import Budget
from josh_pipeline.search.tree import Node, Tree


def elders(tree: Tree, node: Node) -> list[Node]:
    """The elder ones of the same round."""
    return [n for n in in_round(tree, node.round) if n.parent_id == node.parent_id and n.path < node.path]


MIXED = choosing("GET a", "GET b", "GET a b", "GET x", "?", "hello", "well", "hm")


def test_the_user_speaks_first_and_the_root_holds_that_message():
    tree = grow(said("hello"), max_rounds=1)
    root = tree.nodes[0]
    assert (root.path, root.parent_id, root.round, root.completions) == ((), None, 0, ())
    assert [m.content for m in root.messages] == ["Turn 0, I heard nothing."]


def test_leaves_double_until_the_beam_is_full_and_then_stay_as_they_are():
    tree = grow(said(), max_rounds=6, beam_size=8)
    assert [len(in_round(tree, n)) for n in range(7)] == [1, 2, 4, 8, 8, 8, 8]
    assert all(node.path[-1] == 0 for node in in_round(tree, 5))


def test_a_beam_of_one_never_branches():
    tree = grow(said(), max_rounds=3, beam_size=1)
    assert [node.path for node in tree.nodes] == [(), (0,), (0, 0), (0, 0, 0)]


def test_a_beam_that_three_leaves_cannot_double_into_stays_at_three():
    def answer(request: Request) -> str:
        if last_text(request).startswith("Turn 1") and faults:
            raise faults.pop()
        return "hm"

    faults = [failing("timeout")]
    tree = grow(ScriptedPolicy(answer), max_rounds=4, beam_size=5)
    assert [len(in_round(tree, n)) for n in range(5)] == [1, 2, 4, 3, 3]


def test_siblings_are_asked_with_different_seeds_and_the_same_prompt():
    policy = said("hello")
    grow(policy, max_rounds=1)
    first, second = policy.asked
    assert first.messages == second.messages and first.seed != second.seed
    assert first.messages[0].role == "system" and first.tools == ({"name": "get"},)


def test_the_first_earner_in_tree_order_is_golden_however_late_it_finishes():
    class SlowFirst(ScriptedPolicy):
        async def complete(self, request: Request) -> Completion:
            await asyncio.sleep(0 if self.asked else 0.02)
            return await super().complete(request)

    tree = grow(SlowFirst(lambda r: "here" if after_call(r) else "GET a"), max_rounds=1)
    left, right = in_round(tree, 1)
    assert (left.golden, left.successful, right.golden, right.successful) == (True, True, False, True)
    assert right.end == "pruned" and tree.earned == (0,)


def test_the_tree_collapses_to_the_golden_leaf():
    asked_in_turn_1: list[int] = []

    def answer(request: Request) -> str:
        if last_text(request).startswith("Turn 1"):
            asked_in_turn_1.append(request.seed)
            return "GET a" if len(asked_in_turn_1) == 2 else "no"
        return "here"

    tree = grow(ScriptedPolicy(answer), max_rounds=3, beam_size=8)
    golden = by_path(tree, 0, 1)
    assert golden.golden and golden.earned == (0,) and golden.end is None
    assert [n.end for n in in_round(tree, 2) if n is not golden] == ["pruned"] * 3
    assert [node.path for node in in_round(tree, 3)] == [(0, 1, 0), (0, 1, 1)]
    assert tree.nodes[0].golden and by_path(tree, 0).golden and not by_path(tree, 1).golden


def test_only_what_the_golden_leaf_earned_is_removed():
    def answer(request: Request) -> str:
        if after_call(request):
            return "here"
        return prizes.pop(0) if prizes else "GET b"

    prizes = ["GET a"]
    tree = grow(ScriptedPolicy(answer), max_rounds=4)
    assert by_path(tree, 0).earned == (0,) and by_path(tree, 1).earned == (1,)
    assert by_path(tree, 0, 0).earned == (1,) and by_path(tree, 0, 0).end == "solved"
    assert tree.reward == 1.0 and tree.rounds == 2


def test_a_solved_search_ends_before_the_user_speaks_again():
    tree = grow(said("GET a b", "here"), prizes="ab")
    golden = by_path(tree, 0)
    assert golden.end == "solved" and golden.messages[-1].content == "here"


def test_a_reward_is_earned_once():
    tree = grow(said("GET a", "here", "GET a", "again", "GET a b", "done"))
    assert [node.earned for node in tree.nodes if node.golden] == [(), (0,), (), (1,)]


def test_the_last_round_leaves_its_leaves_spent():
    tree = grow(said(), max_rounds=2)
    assert {node.end for node in in_round(tree, 2)} == {"rounds_spent"}
    assert tree.rounds == 2 and tree.reward == 0.0 and tree.failure is None


def test_a_leaf_whose_user_says_goodbye_ends():
    tree = grow(said(), user=TinyUser(turns=1))
    leaves = in_round(tree, 1)
    assert [leaf.end for leaf in leaves] == ["user_done", "user_done"]
    assert leaves[0].messages[-1].content == "Goodbye."


def test_a_silent_farewell_leaves_no_message():
    class Silent(TinyUser):
        async def reply(self, conversation):
            return UserReply("", done=True) if conversation else UserReply("Hi.", done=False)

    tree = grow(said("hello"), user=Silent())
    assert [m.content for m in by_path(tree, 0).messages] == ["hello"]


def test_a_branch_that_fails_earns_nothing_and_dies_alone():
    def answer(request: Request) -> str:
        if not after_call(request):
            return "GET a"
        if faults:
            raise faults.pop()
        return "here"

    faults = [failing("endpoint")]
    tree = grow(ScriptedPolicy(answer), prizes="a")
    left, right = in_round(tree, 1)
    assert (left.failure, left.failure_message) == ("endpoint", "A scripted endpoint failure.")
    assert (left.end, left.earned, left.messages, left.golden) == ("failed", (), (), False)
    assert right.golden and right.end == "solved" and tree.failure is None and tree.reward == 1.0


def test_a_search_all_of_whose_leaves_fail_is_a_failed_tree():
    def answer(request: Request) -> str:
        if last_text(request).startswith("Turn 1"):
            raise failing("context_length")
        return "hm"

    tree = grow(ScriptedPolicy(answer))
    assert tree.failure == "context_length" and tree.rounds == 2
    assert {node.end for node in in_round(tree, 2)} == {"failed"}


def test_a_user_who_never_speaks_gives_a_failed_tree():
    tree = grow(said(), user=TinyUser(fails_at=0))
    assert tree.failure == "user" and tree.failure_message == "A scripted user failure."
    assert [(n.messages, n.end) for n in tree.nodes] == [((), "failed")]


def test_a_user_who_fails_later_costs_the_branch_but_keeps_what_it_earned():
    tree = grow(said("GET a", "here"), user=TinyUser(fails_at=1))
    golden = by_path(tree, 0)
    assert golden.golden and golden.end == "failed" and golden.failure == "user"
    assert tree.reward == 0.5 and tree.failure == "user"


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("GET 0", "world", "The tool get raised ZeroDivisionError: a bug of the world"),
        ("%", "parse", "Reading the completion raised ValueError: a bug of the reader"),
    ],
)
def test_what_breaks_the_world_or_the_reader_costs_its_branch_and_is_typed(text, kind, message):
    def answer(request: Request) -> str:
        if after_call(request):
            return "here"
        return broken.pop() if broken else "GET a"

    broken = [text]
    tree = grow(ScriptedPolicy(answer), prizes="a")
    left, sound = in_round(tree, 1)
    assert (left.failure, left.failure_message, left.end) == (kind, message, "failed")
    assert sound.golden and tree.failure is None


def test_a_user_that_breaks_costs_the_branch_and_is_typed():
    class BrokenUser(TinyUser):
        async def reply(self, conversation: Conversation) -> UserReply:
            raise KeyError("name")

    tree = grow(said(), user=BrokenUser())
    assert (tree.failure, tree.failure_message) == ("user", "The user raised KeyError: 'name'")


def test_a_fault_of_the_policy_s_program_is_not_swallowed():
    def answer(request: Request) -> str:
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError, match="a bug"):
        grow(ScriptedPolicy(answer))


def test_a_goal_without_milestones_is_refused():
    with pytest.raises(UserError, match="has no milestones to search for"):
        grow(said(), prizes="")


def test_requests_used_up_make_an_error_turn_and_the_conversation_goes_on():
    tree = grow(said("?", "GET x", "GET y", "hello"), max_rounds=2, max_requests=3)
    first = by_path(tree, 0)
    assert first.error_turn and len(first.completions) == 3 and first.end is None
    spoken = [m for m in first.messages if m.role == "assistant"][-1]
    assert spoken.error and first.messages[-1].role == "user"


def test_stepping_by_action_branches_before_each_request():
    tree = grow(said("GET x", "GET a", "here", "bye"), step_by="action", max_rounds=2, beam_size=4)
    assert [len(in_round(tree, n)) for n in range(4)] == [1, 2, 4, 2]
    assert len(by_path(tree, 0).completions) == 1 and by_path(tree, 0).messages[-1].role == "tool"
    assert by_path(tree, 0, 0).golden and by_path(tree, 0, 0, 0).messages[-1].role == "user"


def test_stepping_by_action_keeps_the_limit_of_requests_a_turn():
    tree = grow(said("GET x", "GET x", "GET x", "bye"), step_by="action", max_rounds=1, max_requests=2, beam_size=1)
    assert [node.error_turn for node in tree.nodes] == [False, False, True]
    assert tree.nodes[-1].end == "rounds_spent" and tree.rounds == 2


def test_a_spent_budget_ends_the_search_between_rounds():
    tree = grow(said(), budget=Budget(max_tokens=1))
    assert tree.rounds == 1 and {node.end for node in in_round(tree, 1)} == {"budget_spent"}


def test_usage_counts_every_request_and_token():
    policy = ScriptedPolicy(MIXED)
    tree = grow(policy, max_rounds=4)
    completions = [c for node in tree.nodes for c in node.completions]
    assert tree.usage.requests == len(policy.asked) == len(completions)
    assert tree.usage.completion_tokens == sum(len(c.text) for c in completions)


def test_no_more_requests_are_in_flight_than_the_limiter_allows():
    policy = ScriptedPolicy(MIXED, delay=0.002)
    grow(policy, prizes="abz", limiter=Limiter(3), max_rounds=5)
    assert policy.most_in_flight == 3


def mixed_with_failures(request: Request) -> str:
    if chance(request).random() < 0.1:
        raise failing("timeout")
    return MIXED(request)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), beam=st.integers(1, 9), levers=LEVERS, places=st.integers(1, 9))
def test_equal_seeds_give_equal_trees_in_any_order_of_completion(seed, beam, levers, places):
    def once(delay: float, limiter: Limiter) -> Tree:
        policy = ScriptedPolicy(mixed_with_failures, delay, random.Random())
        return grow(policy, "abc", seed=seed, limiter=limiter, beam_size=beam, max_rounds=5, **levers)

    reference = once(0.0, Limiter(1))
    assert once(0.002, Limiter(places)) == reference
    assert_sound(reference, beam)


def assert_sound(tree: Tree, beam: int) -> None:
    """What holds for every tree."""
    collected: list[int] = []
    last: Node | None = None
    for number in range(1, tree.rounds + 1):
        nodes = in_round(tree, number)
        twins = [node for node in nodes if node.end == "merged"]
        assert 0 < len(nodes) - len(twins) <= beam
        assert all(any(n.messages[: len(twin.messages)] == twin.messages for n in elders(tree, twin)) for twin in twins)
        assert [n.path for n in nodes] == sorted(n.path for n in nodes)
        earners = [n for n in nodes if n.earned]
        assert all(n.successful for n in earners)
        if earners:
            last = earners[0]
            assert not set(last.earned) & set(collected)
            collected += last.earned
            survivors = {n.parent_id for n in in_round(tree, number + 1)}
            assert survivors <= {n.node_id for n in earners if n.earned == last.earned}
    assert {n.node_id for n in tree.nodes if n.golden} == ({n.node_id for n in tree.walk(last)} if last else set())
    assert tuple(sorted(collected)) == tree.earned and len(set(collected)) == len(collected)
    assert tree.reward == len(collected) / 3
    parents = {n.parent_id for n in tree.nodes}
    for node in tree.nodes:
        assert (node.end is None) == (node.node_id in parents)
        assert not node.golden or node.successful
        assert not node.failure or not node.earned or node.successful
        sampled = [m for m in node.messages if m.role == "assistant"]
        assert len(sampled) == len(node.completions) + node.error_turn


def test_different_seeds_give_different_trees():
    trees = [grow(ScriptedPolicy(MIXED), seed=seed, max_rounds=3) for seed in range(5)]
    assert len({str([node.messages for node in tree.nodes]) for tree in trees}) == 5


def left_and_right(left: str, right: str) -> ScriptedPolicy:
    """In the first turn the left child says one thing and the right one another; after that both speak."""

    def answer(request: Request) -> str:
        if request.messages[-1].role == "tool" or len(openings) == 2:
            return "here"
        openings.append(left if not openings else right)
        return openings[-1]

    openings: list[str] = []
    return ScriptedPolicy(answer)


@pytest.mark.parametrize("step_by", ["turn", "action"])
def test_a_void_branch_ends_so_earns_nothing_and_is_not_expanded(step_by: str):
    tree = grow(left_and_right("GET a z", "hello"), world=MoodyWorld("ah"), max_rounds=3, step_by=step_by)
    spoilt, other = in_round(tree, 1)
    assert (spoilt.end, spoilt.earned, spoilt.golden, spoilt.successful) == ("void", (), False, False)
    assert spoilt.failure is None and spoilt.calls[0].earned == (0,)
    assert spoilt.messages[-1].role != "user", "the user is not asked"
    assert not any(node.parent_id == spoilt.node_id for node in tree.nodes)
    assert other.end != "void" and len(in_round(tree, 2)) == 2
    assert tree.reward == 0.0 and tree.earned == () and tree.failure is None


def test_a_tree_whose_branches_are_all_void_has_not_failed():
    tree = grow(left_and_right("GET z", "GET z"), world=MoodyWorld("ah"), max_rounds=3)
    assert [node.end for node in in_round(tree, 1)] == ["void", "void"] and tree.rounds == 1
    assert tree.failure is None and tree.reward == 0.0


@pytest.mark.parametrize("step_by", ["turn", "action"])
def test_a_milestone_of_the_hand_over_counts_in_the_turn_that_it_ends(step_by: str):
    tree = grow(said("GET a", "a gift"), world=MoodyWorld("ah"), beam_size=1, max_rounds=2, step_by=step_by)
    golden = tree.golden_end
    assert golden is not None and tree.earned == (0, 1) and golden.end == "solved"
    assert golden.earned == ((0, 1) if step_by == "turn" else (1,))
    calls = [call for node in tree.walk(golden) for call in node.calls]
    assert [call.earned for call in calls] == [(0,)], "no call earned what the hand-over did"


def test_an_error_turn_hands_over_too():
    tree = grow(said("GET a", "GET x"), world=MoodyWorld("ah"), beam_size=1, step_by="action", max_requests=2)
    golden = tree.golden_end
    assert golden is not None and golden.error_turn and golden.earned == (1,)


def test_the_reward_of_a_tree_is_the_outcome_of_its_golden_conversation():
    for speech, reward in (("a gift", 1.0), ("here", 0.25)):
        tree = grow(said("GET a", speech), world=MoodyWorld("ah"), max_rounds=2)
        assert tree.golden_end is not None and tree.earned == (0, 1)
        assert tree.reward == reward
    assert grow(said("hello"), world=MoodyWorld("ah"), max_rounds=2).reward == 0.0, "nothing was earned"


def test_a_node_keeps_what_its_agent_was_told_where_that_is_not_the_head_of_its_tree():
    tree = grow(said("GET a", "here", "hm"), world=MoodyWorld("ahb"), beam_size=1, max_rounds=2)
    _, first, second = tree.nodes
    assert tree.tools == ({"name": "get"},) and first.told is None
    assert tree.told(first) == (tree.system, tree.tools)
    assert second.told == (tree.system, ({"name": "get"}, {"name": "put"})) == tree.told(second)


def test_an_outcome_that_breaks_is_a_failure_of_the_tree_and_no_crash():
    class Broken(MoodyWorld):
        def fork(self) -> "Broken":
            return Broken(self.prizes, self.won, self.spoilt)

        def outcome(self, conversation: Conversation) -> float:
            raise ZeroDivisionError("a bug of the world")

    tree = grow(said("GET a", "a gift"), world=Broken("ah"), max_rounds=2)
    assert tree.failure == "world" and "The outcome raised ZeroDivisionError" in str(tree.failure_message)
    assert tree.reward == 0.0 and tree.earned == (0, 1)


@pytest.mark.parametrize("step_by", ["turn", "action"])
def test_a_world_that_breaks_at_the_hand_over_ends_its_branch_with_nothing_kept(step_by: str):
    class Broken(MoodyWorld):
        def fork(self) -> "Broken":
            return Broken(self.prizes, self.won, self.spoilt)

        def hand_over(self) -> None:
            raise ZeroDivisionError("a bug of the world")

    tree = grow(said("GET a", "GET b"), world=Broken("abh"), beam_size=1, step_by=step_by, max_requests=2, max_rounds=3)
    failed = next(node for node in tree.nodes if node.failure)
    assert failed.failure == "world" and failed.end == "failed"
    assert (failed.messages, failed.calls, failed.earned) == ((), (), ())


def test_an_error_turn_whose_hand_over_breaks_fails_its_branch_alone():
    class Broken(MoodyWorld):
        def fork(self) -> "Broken":
            return Broken(self.prizes, self.won, self.spoilt)

        def hand_over(self) -> None:
            raise ZeroDivisionError("a bug of the world")

    tree = grow(said("GET a", "GET b"), world=Broken("abh"), beam_size=1, max_requests=1)
    assert [node.failure for node in tree.nodes] == [None, "world"]
