"""Segments of a search tree: which branches are held against each other, and what a row keeps of it."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import pytest
from fakes import (
    MoodyWorld,
    SampledPolicy,
    ScriptedPolicy,
    TinyAgent,
    TinyUser,
    by_path,
    choosing,
    completion,
    failing,
    grow,
    last_text,
)  # fmt: skip

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.policy import Request
from josh_pipeline.harvest.checks import check_rows
from josh_pipeline.harvest.harvest import HarvestResult, harvest, without_long
from josh_pipeline.harvest.rows import Sample, row_from_record, row_record
from josh_pipeline.harvest.segments import Standing, standings
from josh_pipeline.search.tree import Tree
from josh_pipeline.settings import load_settings

NOBODY: frozenset[str] = frozenset()


def by_turn(*turns: str) -> Callable[[Request], str]:
    """Say the letters of a turn, one a sibling, in the order in which they are asked; after a call say 'here'."""
    waiting = [iter(turn.split(";")) for turn in turns]

    def answer(request: Request) -> str:
        if request.messages[-1].role == "tool":
            return "here"
        spoken = sum(message.role == "user" for message in request.messages)
        return next(waiting[spoken - 1]).strip()

    return answer


def standing_of(tree: Tree, *path: int) -> Standing | None:
    return standings(tree).get(by_path(tree, *path).node_id)


def samples(trees: Sequence[Tree], mode: str = "partial") -> HarvestResult:
    return harvest(trees, "srpg", "samples", mode, NOBODY)  # type: ignore[arg-type]


def test_the_branches_of_a_segment_are_held_against_each_other_and_a_node_is_the_mean_of_its_leaves():
    tree = grow(SampledPolicy(by_turn("hm; well", "GET a; hm; no; well")), "ab", beam_size=4, max_rounds=2)
    assert standing_of(tree, 0) == Standing(0.25, 0.5, 2), "the mean of its children"
    assert standing_of(tree, 1) == Standing(-0.25, 0.5, 2)
    assert standing_of(tree, 0, 0) == Standing(0.75, 0.5, 1)
    assert standing_of(tree, 1, 1) == Standing(-0.25, 0.5, 1)


def test_a_collapse_begins_another_segment_whose_leaves_say_nothing_of_the_first():
    tree = grow(SampledPolicy(by_turn("GET a; hm", "no; GET b")), "ab", beam_size=2)
    assert standing_of(tree, 0) == Standing(0.5, pytest.approx(math.sqrt(0.5)), 1)  # type: ignore[arg-type]
    assert standing_of(tree, 0, 0).advantage == -0.5  # type: ignore[union-attr]
    assert standing_of(tree, 0, 1).advantage == 0.5  # type: ignore[union-attr]


def test_a_return_is_a_share_of_what_the_best_of_the_segment_earned():
    tree = grow(SampledPolicy(by_turn("GET a; GET a b; hm; no")), "abc", beam_size=4, children=4, max_rounds=1)
    found = [standing_of(tree, child) for child in range(4)]
    assert [one.advantage for one in found if one] == [0.125, 0.625, -0.375, -0.375]


def test_where_all_leaves_fared_the_same_there_is_nothing_to_learn():
    assert standings(grow(SampledPolicy(by_turn("GET a; GET a")), "ab", beam_size=2, max_rounds=1)) == {}
    tree = grow(SampledPolicy(choosing("hm", "no")), "ab", beam_size=4, max_rounds=2)
    assert standings(tree) == {} and samples([tree]).rows == ()


def test_of_branches_that_failed_or_were_merged_nothing_was_learned_and_of_spoilt_ones_that_they_earn_nothing():
    def answer(request: Request) -> str:
        said = next(words)
        if said == "fail":
            raise failing("endpoint")
        return said

    words = iter(["GET a", "fail", "hm", "hm", "GET z", "here", "here"])
    tree = grow(
        SampledPolicy(answer), world=MoodyWorld("abh"), beam_size=5, children=5, max_rounds=1, merge_twins=True
    )  # fmt: skip
    ends = [by_path(tree, child).end for child in range(5)]
    assert ends[1] == "failed" and "merged" in ends and "void" in ends
    found = [standing_of(tree, child) for child in range(5)]
    assert [one is None for one in found] == [end in ("failed", "merged") for end in ends]
    assert [round(one.advantage, 3) for one in found if one] == [0.667, -0.333, -0.333]


def test_a_branch_that_the_user_left_counts_and_one_that_failed_after_it_had_earned_does_too():
    tree = grow(SampledPolicy(by_turn("GET a; hm")), "ab", beam_size=2, user=TinyUser(fails_at=1))
    assert by_path(tree, 0).end == "failed" and standing_of(tree, 0) is not None
    left = grow(SampledPolicy(by_turn("hm; no", "GET a; hm; GET a; no")), "a", beam_size=4, user=TinyUser(turns=2))
    assert standing_of(left, 1) == Standing(0.0, pytest.approx(0.577, abs=1e-3), 2)  # type: ignore[arg-type]


def test_each_message_of_a_turn_is_a_row_with_what_was_sampled_and_how_likely_it_was():
    tree = grow(SampledPolicy(by_turn("GET a; hm")), "ab", beam_size=2, max_rounds=1, temperature=0.7)
    rows = samples([tree]).rows
    assert [(row.sides[0].said[0].message.content, row.label) for row in rows] == [
        ("GET a", "desirable"), ("here", "desirable"), ("hm", "undesirable"),
    ]  # fmt: skip
    first = rows[0]
    assert first.kind == "samples" and first.sides[0].said[0].token_ids == completion("GET a").token_ids
    assert first.sample == Sample((-1.0,) * 6, 0.7, 0.5, math.sqrt(0.5), 1)
    assert row_from_record(row_record(first)) == first
    assert row_from_record(row_record(first)).row_id == first.row_id
    changed = dataclasses.replace(first.sides[0], sample=dataclasses.replace(first.sample, advantage=0.4))
    assert dataclasses.replace(first, sides=(changed,)).row_id != first.row_id


def test_what_siblings_drew_alike_is_one_row_that_weighs_as_often_and_has_the_mean_of_their_advantages():
    tree = grow(SampledPolicy(by_turn("GET a; hm; hm; GET a")), "ab", beam_size=4, children=4, max_rounds=1)
    found = {row.sides[0].said[0].message.content: row for row in samples([tree]).rows}
    assert {name: (row.sample.advantage, row.sample.leaves) for name, row in found.items() if row.sample} == {
        "GET a": (0.5, 2), "here": (0.5, 2), "hm": (-0.5, 2),
    }  # fmt: skip
    assert len(samples([tree]).origins) == 6
    evened = grow(SampledPolicy(by_turn("hm; hm", "GET a; no; no; GET a")), "ab", beam_size=4, max_rounds=2)
    assert "hm" not in {row.sides[0].said[0].message.content for row in samples([evened]).rows}


def test_nothing_unreadable_is_reinforced_and_rows_pass_the_checks_of_a_harvest():
    def answer(request: Request) -> str:
        if last_text(request).startswith("Write"):
            return "GET a"
        return "here" if request.messages[-1].role == "tool" else next(words)

    words = iter(["?", "hm", "no", "well"])
    tree = grow(SampledPolicy(answer), "ab", beam_size=2, max_rounds=1)
    found = samples([tree])
    assert found.refused == {"unreadable": 1}
    assert [row.sides[0].said[0].message.content for row in found.rows] == ["GET a", "here", "hm"]
    assert [one.rule for one in check_rows(found.rows, TinyAgent(), 999) if one.blocking] == []
    alone = dataclasses.replace(found, rows=found.rows[2:])
    assert without_long(alone, 999).rows == alone.rows, "it needs no desirable message after the same prompt"


def test_trees_without_log_probabilities_are_refused_with_what_to_do():
    tree = grow(ScriptedPolicy(by_turn("GET a; hm")), "ab", beam_size=2, max_rounds=1)
    with pytest.raises(UserError, match="was sampled without log-probabilities, which srpg needs: search with"):
        samples([tree])
    for other in ({"search": {"top_p": 0.9}}, {"search": {"top_k": 5}}, {"policy": {"endpoint": "http://x/v1"}}):
        with pytest.raises(UserError, match=r"search\.top_p to 1, search\.top_k to 0 and policy\.endpoint to null"):
            load_settings("quickstart", other | {"training": {"method": "srpg"}})
