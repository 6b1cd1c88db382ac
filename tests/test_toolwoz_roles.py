"""Roles of goals, and the paper's own test goals."""

from collections import Counter

import pytest
from toolwoz_town import INDIAN, RIDE, corpus_of, dialogue, environment_of

from josh_pipeline.core.errors import UserError
from josh_pipeline.environments.toolwoz.goals import derive_goals

GOAL = {"restaurant": {"info": INDIAN}, "train": {"info": RIDE}}


def many(count, split="val"):
    return corpus_of(*(dialogue(GOAL, dialogue_id=f"MUL{i:04}", split=split) for i in range(count)))


def test_roles_follow_the_lists_of_a_corpus_that_has_all_three():
    corpus = corpus_of(*(dialogue(GOAL, dialogue_id=s, split=s) for s in ("train", "val", "test")))
    assert corpus.has_all_splits
    assert "follow" in environment_of(corpus).roles_sentence()
    for goal in derive_goals(corpus, "audited"):
        assert goal.role == goal.dialogue_id


def test_roles_are_drawn_50_20_30_where_a_list_is_missing():
    corpus = many(2_000)
    assert not corpus.has_all_splits
    assert "50 : 20 : 30" in environment_of(corpus).roles_sentence()
    drawn = Counter(goal.role for goal in derive_goals(corpus, "audited"))
    assert [round(drawn[role] / 2_000, 1) for role in ("train", "val", "test")] == [0.5, 0.2, 0.3]


def test_all_goals_of_a_dialogue_share_a_role():
    corpus = many(60)
    found = {}
    for semantics in ("paper", "audited"):
        for parts in (False, True):
            for goal in derive_goals(corpus, semantics, parts):
                found.setdefault(goal.dialogue_id, set()).add(goal.role)
    assert all(len(of_dialogue) == 1 for of_dialogue in found.values())


def test_the_papers_test_goals_are_the_first_450_ids_in_sorted_order():
    corpus = many(460, "test")
    environment = environment_of(corpus, "paper")
    chosen = environment.selection("test-450", environment.tasks()[::-1])
    assert [goal.dialogue_id for goal in chosen] == [f"MUL{i:04}" for i in range(450)]


@pytest.mark.parametrize(("count", "split"), [(500, "val"), (449, "test")])
def test_the_papers_test_goals_need_the_official_list(count, split):
    corpus = many(count, split)
    with pytest.raises(UserError, match="test-450 needs"):
        environment_of(corpus).selection("test-450", environment_of(corpus).tasks())


def test_an_unknown_selection_is_refused() -> None:
    with pytest.raises(UserError, match="no selection 'test-500': use --role"):
        environment_of(many(3)).selection("test-500", ())


def test_an_excluded_goal_keeps_its_place_in_the_450_and_is_left_out() -> None:
    nowhere = {"restaurant": {"info": {"food": "none"}}}
    corpus = corpus_of(dialogue(nowhere, dialogue_id="MUL0000a", split="test"), *many(460, "test").dialogues)
    environment = environment_of(corpus)
    chosen = environment.selection("test-450", environment.tasks())
    assert [goal.dialogue_id for goal in chosen][:2] == ["MUL0000", "MUL0001"] and len(chosen) == 449
