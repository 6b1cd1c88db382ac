"""Roles of goals, and the paper's own test goals."""

from collections import Counter

import pytest
from josh_pipeline.toolwoz import roles
from toolwoz_town import INDIAN, RIDE, corpus_of, dialogue

from josh_pipeline.core.errors import UserError
from josh_pipeline.environments.toolwoz.goals import derive_goals

GOAL = {"restaurant": {"info": INDIAN}, "train": {"info": RIDE}}


def many(count, split="val"):
    return corpus_of(*(dialogue(GOAL, dialogue_id=f"MUL{i:04}", split=split) for i in range(count)))


def test_roles_follow_the_lists_of_a_corpus_that_has_all_three():
    corpus = corpus_of(*(dialogue(GOAL, dialogue_id=s, split=s) for s in ("train", "val", "test")))
    assert roles.has_all_splits(corpus)
    assert "follow" in roles.roles_sentence(corpus)
    for goal in derive_goals(corpus, "audited"):
        assert roles.role_of(goal, True) == goal.dialogue_id


def test_roles_are_drawn_50_20_30_where_a_list_is_missing():
    corpus = many(2_000)
    assert not roles.has_all_splits(corpus)
    assert "50 : 20 : 30" in roles.roles_sentence(corpus)
    drawn = Counter(roles.role_of(goal, False) for goal in derive_goals(corpus, "audited"))
    assert [round(drawn[role] / 2_000, 1) for role in ("train", "val", "test")] == [0.5, 0.2, 0.3]


def test_all_goals_of_a_dialogue_share_a_role():
    corpus = many(60)
    found = {}
    for semantics in ("paper", "audited"):
        for parts in (False, True):
            for goal in derive_goals(corpus, semantics, parts):
                found.setdefault(goal.dialogue_id, set()).add(roles.role_of(goal, False))
    assert all(len(of_dialogue) == 1 for of_dialogue in found.values())


def test_the_papers_test_goals_are_the_first_450_ids_in_sorted_order():
    corpus = many(460, "test")
    shuffled = derive_goals(corpus, "paper")[::-1]
    chosen = roles.paper_test_goals(corpus, shuffled)
    assert [goal.dialogue_id for goal in chosen] == [f"MUL{i:04}" for i in range(450)]


@pytest.mark.parametrize(("count", "split"), [(500, "val"), (449, "test")])
def test_the_papers_test_goals_need_the_official_list(count, split):
    corpus = many(count, split)
    with pytest.raises(UserError, match="test-450 needs"):
        roles.paper_test_goals(corpus, derive_goals(corpus, "paper"))
