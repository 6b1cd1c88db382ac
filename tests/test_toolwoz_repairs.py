"""Each repair of the audited semantics on a small case, and what the repairs change on real data."""

from collections import Counter

import pytest
from toolwoz_town import (
    INDIAN,
    RESTAURANTS,
    RIDE,
    TRAINS,
    corpus_of,
    dialogue,
    dinner,
    goal_of,
    journey,
    real_corpus,
    world_of,
)

from josh_pipeline.environments.toolwoz.databases import canonical, minutes
from josh_pipeline.environments.toolwoz.goals import derive_goals
from josh_pipeline.environments.toolwoz.solvability import misses, repaired_goals, solvability

CHOP_HOUSE = dialogue({"restaurant": {"info": {"name": "saint john's chop house"}}})
COLLEGE = dialogue({"attraction": {"info": {"name": "king's college"}}})


@pytest.mark.parametrize("record", [CHOP_HOUSE, COLLEGE], ids=["case and apostrophe", "apostrophe"])
def test_normalised_finds_rows_written_with_capitals_or_apostrophes(record):
    for semantics, reward in (("paper", 0.0), ("audited", 1.0)):
        ((_, verdict),) = solvability(corpus_of(record), semantics, [goal_of(record, semantics)])
        assert verdict.reward == reward


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (3, "3"),
        (True, "true"),
        (2.5, "2.5"),
        (None, None),
        ("Don't Care", None),
        ("DO N'T CARE", None),
        ("", None),
        ("Queens' College", "queens college"),
        ([1], None),
        ({}, None),
    ],
)
def test_normalised_reads_scalars_as_text_and_empties_after_normalising(value, read):
    assert canonical(value) == read


def test_a_number_too_long_to_print_is_read_as_empty():
    assert canonical(1 << 20_000) is None


def test_normalised_lets_numbers_filter_and_null_stand_for_nothing():
    record = dialogue({"hotel": {"info": {"stars": "2"}}})
    world = world_of(record, "audited")
    assert world.call("search_hotel", {"stars": 2, "name": None}).payload["rows"][0]["name"] == "alpha"
    assert world.milestones() == {0}
    paper = world_of(record, "paper")
    assert paper.call("search_hotel", {"stars": 2}).matches == 2, "a number does not filter"
    assert paper.milestones() == set()


def test_inclusive_finds_the_train_that_leaves_at_the_time_itself():
    record = journey(booked="TR2", leaveAt="10:00")
    query = RIDE | {"leaveAt": "10:00"}
    assert world_of(record, "audited").call("search_train", query).payload == {"rows": [TRAINS[1]]}
    assert world_of(record, "paper").call("search_train", query).payload == {"rows": [TRAINS[2]]}
    record = journey(booked="TR2", arriveBy="10:30")
    query = RIDE | {"arriveBy": "10:30"}
    assert world_of(record, "audited").call("search_train", query).payload == {"rows": [TRAINS[1]]}
    assert world_of(record, "paper").call("search_train", query).payload == {"rows": [TRAINS[0]]}


def test_inclusive_compares_minutes_of_the_day_not_texts():
    world = world_of(journey(booked="TR2"), "audited")
    assert world.call("search_train", {"leaveAt": "9:30"}).matches == 3
    assert world.call("search_train", {"leaveAt": "after nine"}).matches == 0
    assert [minutes(t) for t in ("00:00", "9:05", "24:08", "9.05", "9:60", "٩:٠٥")] == [0, 545, 1448, None, None, None]


def test_target_keeps_the_booked_entity_where_it_satisfies_the_goal():
    assert goal_of(dinner("tandoori palace"), "audited").calls[1].parameters["name"] == "tandoori palace"


@pytest.mark.parametrize("booked", ["curry garden", "no such place"])
def test_target_moves_to_the_first_row_that_satisfies_the_goal(booked):
    search, booking = goal_of(dinner(booked), "audited").calls
    assert search.entity == {"name": "rice boat"}
    assert booking.parameters["name"] == "rice boat"
    assert booking.entity == {"name": "rice boat", "reference": "R1"}
    assert goal_of(dinner(booked), "paper").calls[1].parameters["name"] == booked


def test_hidden_rows_are_those_that_only_the_first_wish_finds():
    record = dinner("rice boat", fail_info={"area": "centre"})
    audited, paper = world_of(record, "audited"), world_of(record, "paper")
    first_wish = INDIAN | {"area": "centre"}
    assert audited.call("search_restaurant", first_wish).payload == {"rows": []}
    assert paper.call("search_restaurant", first_wish).payload == {"rows": [RESTAURANTS[4]]}
    assert audited.call("search_restaurant", {"food": "indian"}).payload == {"rows": [RESTAURANTS[1]]}


def test_hidden_rows_stay_visible_to_other_goals_and_the_target_is_never_hidden():
    world = world_of(dinner("rice boat"), "audited")
    assert world.call("search_restaurant", INDIAN | {"area": "centre"}).payload == {"rows": [RESTAURANTS[4]]}
    same = world_of(dinner("rice boat", fail_info={"area": "west"}), "audited")
    assert same.call("search_restaurant", INDIAN).payload == {"rows": [RESTAURANTS[1]]}


def test_causes_name_why_paper_cannot_be_solved():
    records = [
        (COLLEGE, "apostrophe"),
        (dialogue({"restaurant": {"info": {"food": "Indian"}}}), None),
        (journey("TR2", leaveAt="10:00"), "strict_time"),
        (dinner("no such place"), "absent_entity"),
        (dinner("curry garden"), "violating_entity"),
        (dialogue({"restaurant": {"info": INDIAN | {"area": "east"}}}), "no_entity"),
        (dinner("Tandoori Palace"), "case"),
    ]
    for record, cause in records:
        assert [miss.cause for miss in misses(corpus_of(record))] == ([cause] if cause else [])


def test_counts_of_repaired_goals_on_small_cases():
    corpus = corpus_of(COLLEGE)
    assert repaired_goals(corpus) == {"normalised": ("MUL0001",), "inclusive": (), "target": (), "hidden": ()}
    corpus = corpus_of(dinner("curry garden", fail_info={"area": "centre"}))
    assert repaired_goals(corpus) == {"normalised": (), "inclusive": (), "target": ("MUL0001",), "hidden": ("MUL0001",)}
    corpus = corpus_of(journey("TR2", leaveAt="10:00"))
    assert repaired_goals(corpus)["inclusive"] == ("MUL0001",)


def test_the_oracle_solves_every_audited_goal_and_part_of_the_real_validation_list():
    corpus = real_corpus()
    for parts, number in ((False, 792), (True, 1438)):
        verdicts = solvability(corpus, "audited", derive_goals(corpus, "audited", parts))
        assert [goal.dialogue_id for goal, verdict in verdicts if not verdict.solvable] == []
        assert len(verdicts) == number


def test_the_oracle_solves_755_of_the_793_real_goals_under_paper_and_each_miss_has_a_cause():
    corpus = real_corpus()
    verdicts = solvability(corpus, "paper", derive_goals(corpus, "paper"))
    assert sum(verdict.solvable for _, verdict in verdicts) == 755
    missed = misses(corpus)
    assert len({miss.dialogue_id for miss in missed}) == 38
    assert Counter(miss.cause for miss in missed) == {
        "violating_entity": 19,
        "apostrophe": 13,
        "absent_entity": 3,
        "strict_time": 2,
        "case": 2,
    }


def test_each_repair_changes_the_documented_number_of_real_goals():
    changed = repaired_goals(real_corpus())
    assert {name: len(dialogues) for name, dialogues in changed.items()} == {
        "normalised": 15,
        "inclusive": 484,
        "target": 22,
        "hidden": 121,
    }
