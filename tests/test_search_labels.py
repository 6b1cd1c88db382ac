import dataclasses

import pytest
from fakes import LEVERS, MoodyWorld, PrizeWorld, ScriptedPolicy, TinyUser, chance, choosing, failing, grow, said
from hypothesis import given, settings
from hypothesis import strategies as st

from josh_pipeline.core.policy import Request
from josh_pipeline.harvest.labels import disagreements, relabel
from josh_pipeline.search.tree import Tree

MIXED = choosing("GET a", "GET b", "GET a b", "GET x", "?", "hello", "well", "hm")


def faulty(request: Request) -> str:
    if chance(request).random() < 0.1:
        raise failing("timeout")
    return MIXED(request)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), beam=st.integers(1, 9), levers=LEVERS)
def test_labels_derived_from_the_calls_alone_agree_with_the_search(seed, beam, levers):
    tree = grow(ScriptedPolicy(faulty), "abc", seed=seed, beam_size=beam, max_rounds=6, **levers)
    labels = relabel(tree, PrizeWorld("abc"))
    assert disagreements(tree, labels) == []
    assert labels.earned == tree.earned and labels.reward == tree.reward


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), beam=st.integers(1, 9), levers=LEVERS)
def test_labels_know_of_void_branches_hand_overs_and_outcomes(seed, beam, levers):
    answers = choosing("GET a", "GET b", "GET a z", "?", "hello", "a gift")
    tree = grow(
        ScriptedPolicy(answers), world=MoodyWorld("abh"), seed=seed, beam_size=beam,
        max_rounds=6, max_requests=2, **levers,
    )  # fmt: skip
    labels = relabel(tree, MoodyWorld("abh"))
    assert disagreements(tree, labels) == []
    assert labels.reward == tree.reward in (0.0, 0.25, 1.0)
    assert (tree.reward == 0.0) == (tree.golden_end is None)
    assert not any(node.earned or node.golden for node in tree.nodes if node.end == "void")


def test_a_failed_tree_has_labels_too():
    tree = grow(said("GET a", "here"), "ab", user=TinyUser(fails_at=1))
    assert relabel(tree, PrizeWorld("ab")).reward == 0.5 == tree.reward


def altered(tree: Tree, **changes: object) -> Tree:
    """The tree with its first golden turn changed."""
    node = next(node for node in tree.nodes if node.golden and node.calls)
    nodes = tuple(dataclasses.replace(n, **changes) if n is node else n for n in tree.nodes)
    return dataclasses.replace(tree, nodes=nodes)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"earned": ()}, "earned () is stored, (0,) is right"),
        ({"golden": False}, "golden False is stored, True is right"),
        ({"successful": False}, "successful False is stored, True is right"),
        ({"calls": ()}, "earned (0,) is stored, () is right"),
    ],
)
def test_a_tampered_label_is_named(changes, complaint):
    tree = grow(said("GET a", "here"), "a", beam_size=1)
    found = disagreements(altered(tree, **changes), relabel(altered(tree, **changes), PrizeWorld("a")))
    assert any(complaint in sentence for sentence in found)


def test_a_tampered_result_or_reward_is_named():
    tree = grow(said("GET a", "here"), "a", beam_size=1)
    (call,) = tree.nodes[1].calls
    forged = altered(tree, calls=(dataclasses.replace(call, payload={"rows": []}),))
    assert "return something else" in disagreements(forged, relabel(forged, PrizeWorld("a")))[0]
    richer = dataclasses.replace(tree, reward=0.5)
    assert "reward 0.5 is stored, 1.0 is right" in disagreements(richer, relabel(richer, PrizeWorld("a")))[0]
