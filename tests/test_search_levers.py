"""What a search may do beyond the paper's: merge twins, draw again, heat siblings, go on from its last reward."""

from fakes import ScriptedPolicy, TinyUser, after_call, by_path, grow, in_round, said

from josh_pipeline.core.policy import Request


def test_a_branch_that_says_what_its_elder_sibling_says_is_merged_and_its_place_given_on():
    """Of four children in the first round two differ; each of these has two children in the second."""
    words = iter(["hm", "well", "hm", "hm", *"abcd"])
    tree = grow(ScriptedPolicy(lambda request: next(words)), beam_size=4, children=4, merge_twins=True, max_rounds=2)
    assert [node.end for node in in_round(tree, 1)] == [None, None, "merged", "merged"]
    assert [node.path for node in in_round(tree, 2)] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert all(node.messages[-1].role == "assistant" for node in tree.nodes if node.end == "merged")


def test_a_reward_may_keep_all_branches_that_earned_it():
    """Both branches of the first round earn; what the elder says ends nowhere, the younger one's line goes on."""

    def answer(request: Request) -> str:
        if after_call(request):
            return next(words)
        return "GET a" if len(request.messages) == 2 else "GET b" if "yes" in str(request.messages) else "hm"

    words = iter(["sorry", "yes", "done", "done"])
    tree = grow(ScriptedPolicy(answer), "ab", beam_size=2, collapse="all", max_rounds=2)
    assert [(node.path, node.golden, node.successful) for node in tree.nodes] == [
        ((), True, True), ((0,), False, True), ((1,), True, True), ((0, 0), False, False), ((1, 0), True, True),
    ]  # fmt: skip
    assert tree.reward == 1.0 and [node.end for node in tree.nodes] == [None, None, None, "pruned", "solved"]
    words = iter(["sorry", "yes"])
    first = grow(ScriptedPolicy(answer), "ab", beam_size=2, max_rounds=2)
    assert first.reward == 0.5 and by_path(first, 1).end == "pruned"


def test_branches_that_earned_something_else_are_pruned_all_the_same():
    words = iter(["GET a", "GET b", "here", "here"])
    tree = grow(ScriptedPolicy(lambda request: next(words)), "ab", beam_size=2, collapse="all", max_rounds=1)
    assert [(node.earned, node.end) for node in in_round(tree, 1)] == [((0,), "rounds_spent"), ((1,), "pruned")]


def test_twins_that_earn_are_merged_too_and_stay_successful():
    tree = grow(said("GET a", "here"), "a", merge_twins=True)
    golden, twin = in_round(tree, 1)
    assert (golden.end, twin.end, twin.golden, twin.successful) == ("solved", "merged", False, True)


def test_cousins_that_say_the_same_are_not_twins():
    words = iter(["hm", "well", *"aabb"])
    tree = grow(ScriptedPolicy(lambda request: next(words)), beam_size=4, merge_twins=True, max_rounds=2)
    assert [node.end for node in in_round(tree, 2)] == ["rounds_spent", "merged"] * 2


def test_another_child_is_drawn_for_a_twin_until_one_differs_or_the_redraws_are_used():
    words = iter(["hm", "hm", "hm", "well", "hm", "hm", "hm", "hm", "hm", "hm", "hm", "hm"])
    tree = grow(
        ScriptedPolicy(lambda request: next(words)), beam_size=2, merge_twins=True, redraws=2, max_rounds=2
    )  # fmt: skip
    assert [node.end for node in in_round(tree, 1)] == [None, "merged", "merged", None]
    assert {node.path for node in in_round(tree, 2)} == {(0, 0), (3, 0)}


def test_nothing_is_drawn_again_where_something_was_earned():
    tree = grow(said("GET a", "here"), "ab", merge_twins=True, redraws=3, max_rounds=1)
    assert [node.end for node in in_round(tree, 1)] == ["rounds_spent", "merged"]


def test_a_search_whose_leaves_all_ended_goes_on_from_its_last_reward():
    def answer(request: Request) -> str:
        asked.append(request)
        if after_call(request):
            return "here"
        return "GET a" if len(asked) == 1 else "GET b" if len(asked) > 7 else "hm"

    asked: list[Request] = []
    user = TinyUser(turns=3)
    tree = grow(ScriptedPolicy(answer), user=user, beam_size=2, restarts=1)
    assert [node.path for node in tree.nodes if node.golden] == [(), (0,), (0, 2)]
    assert [node.end for node in tree.nodes if len(node.path) > 2 and not node.golden] == ["user_done"] * 2
    assert tree.reward == 1.0
    asked.clear()
    assert grow(ScriptedPolicy(answer), user=user, beam_size=2).reward == 0.5


def test_a_search_that_earned_nothing_goes_on_from_the_root_as_often_as_it_may():
    tree = grow(said(), user=TinyUser(turns=1), restarts=2)
    assert [node.path for node in tree.nodes] == [(), (0,), (1,), (2,), (3,), (4,), (5,)]
    assert {node.end for node in tree.nodes[1:]} == {"user_done"} and tree.rounds == 3


def test_no_search_goes_on_where_the_golden_conversation_itself_ended():
    tree = grow(said("GET a", "here"), user=TinyUser(turns=1), restarts=2)
    assert tree.rounds == 1 and by_path(tree, 0).end == "user_done"


def test_each_elder_sibling_makes_a_sample_hotter():
    policy = said("hello")
    grow(policy, beam_size=4, children=4, max_rounds=1, temperature=0.5, temperature_step=0.25)
    assert [request.sampling.temperature for request in policy.asked] == [0.5, 0.75, 1.0, 1.25]
