"""Goals: what a record gives, what it cannot give and why, parts, and the counts of the real corpus."""

from typing import Any

import pytest
from toolwoz_town import INDIAN, RIDE, TABLE, corpus_of, dialogue, dinner, goal_of, journey, real_corpus

from josh_pipeline.environments.toolwoz.corpus import Dialogue
from josh_pipeline.environments.toolwoz.goal import GroundTruthCall, instructions, line_domains
from josh_pipeline.environments.toolwoz.goals import REASONS, derive_goals

MESSAGE = [
    "You are planning your trip in Cambridge",
    "You are looking for a <span class='emphasis'>train</span>. It should go to <span>ely</span>",
    "The train should leave on <span class='emphasis'>monday</span>",
    "Once you find the train you want to make a booking for <span>2 people</span>",
    "You are also looking for a place to dine. The restaurant should be in the <span>west</span>",
    "Once you find the restaurant you want to book a table for the same group of people at 18:00 "
    "on the same day as the train booking",
    "Make sure you get the reference number",
]
TRIP = dialogue(
    {
        "message": MESSAGE,
        "restaurant": {"info": INDIAN, "book": TABLE, "reqt": ["phone"], "fail_info": {"area": "north"}},
        "train": {"info": RIDE, "book": {"people": "2"}, "fail_book": {"people": "9"}},
        "taxi": {},
    },
    {
        "restaurant": [{"name": "rice boat", "reference": "R1"}],
        "train": [{"trainID": "TR1", "reference": "T0"}, {"trainID": "TR2", "reference": "T1"}],
    },
)


def test_calls_follow_info_book_and_the_last_booked_record():
    goal = goal_of(TRIP, "paper")
    assert goal.excluded is None
    assert goal.calls == (
        GroundTruthCall(
            "search_train", {"destination": "ely", "day": "monday", "departure": "cambridge"}, {"trainID": "TR2"}
        ),
        GroundTruthCall("book_train", {"people": "2", "trainID": "TR2"}, {"trainID": "TR2", "reference": "T1"}),
        GroundTruthCall("search_restaurant", INDIAN, {"name": "rice boat"}),
        GroundTruthCall(
            "book_restaurant",
            {"time": "18:00", "day": "monday", "people": "2", "name": "rice boat"},
            {"name": "rice boat", "reference": "R1"},
        ),
    )


def test_tasks_keep_what_the_user_is_told_in_the_order_of_the_instructions():
    goal = goal_of(TRIP, "audited")
    assert goal.domains == ("train", "restaurant")
    train, restaurant = goal.tasks
    assert train.fail_book == {"people": "9"}
    assert restaurant.info == INDIAN
    assert restaurant.fail_info == {"area": "north"}
    assert restaurant.book == {"people": "2", "day": "monday", "time": "18:00"}, "flags are no slots"
    assert restaurant.requested == ("phone",)


def test_a_goal_without_booked_record_has_no_booking_and_no_entity():
    (call,) = goal_of(dinner(booked=None), "audited").calls
    assert (call.tool, call.entity) == ("search_restaurant", None)


def test_empty_values_are_no_parameters():
    record = dialogue({"restaurant": {"info": INDIAN | {"name": "not mentioned", "area": "dont care"}}})
    for semantics in ("paper", "audited"):
        assert goal_of(record, semantics).calls[0].parameters == {"food": "indian", "pricerange": "expensive"}


def test_the_belief_state_names_the_entity_where_the_record_does_not():
    goal = {"restaurant": {"info": INDIAN, "book": TABLE}}
    record = dialogue(goal, {"restaurant": [{"reference": "R2"}]}, {"restaurant": {"name": "rice boat"}})
    assert goal_of(record, "paper").calls[1].entity == {"reference": "R2", "name": "rice boat"}


def test_the_last_turn_but_one_is_read_where_the_last_has_no_metadata():
    record = dinner()
    later = Dialogue(record.dialogue_id, "val", record.goal, (*record.log, {"text": "bye", "metadata": {}}))
    assert goal_of(later, "paper").calls == goal_of(record, "paper").calls
    too_late = Dialogue(record.dialogue_id, "val", record.goal, (*later.log, {"text": "bye", "metadata": {}}))
    assert goal_of(too_late, "paper").excluded == "no_metadata"


@pytest.mark.parametrize("domain", ["taxi", "police", "hospital"])
def test_dialogues_that_ask_for_taxi_police_or_hospital_are_not_listed(domain: str):
    record = dialogue({"restaurant": {"info": INDIAN}, domain: {"info": {"department": "x"}}})
    assert derive_goals(corpus_of(record), "paper") == []
    assert derive_goals(corpus_of(record), "audited", parts=True) == []


ODD: list[tuple[str, Any, Any]] = [
    ("no_goal", {}, None),
    ("no_goal", None, None),
    ("no_goal", ["restaurant"], None),
    ("no_goal", {"message": ["hello"]}, None),
    ("malformed_goal", {"restaurant": ["indian"]}, None),
    ("malformed_goal", {"restaurant": {"info": "indian"}}, None),
    ("malformed_goal", {"restaurant": {"info": {"food": ["indian", "thai"]}}}, None),
    ("malformed_goal", {"restaurant": {"info": INDIAN, "book": TABLE}}, {"restaurant": "rice boat"}),
    ("malformed_goal", {"restaurant": {"info": INDIAN, "book": TABLE}}, {"restaurant": ["rice boat"]}),
    ("no_calls", {"restaurant": {"info": {}, "reqt": ["phone"]}}, None),
    ("booking_without_search", {"restaurant": {"book": TABLE}}, None),
    ("no_booked_id", {"restaurant": {"info": INDIAN, "book": TABLE}}, {"restaurant": [{"reference": "R"}]}),
    ("no_booked_id", {"restaurant": {"info": INDIAN, "book": TABLE}}, {"restaurant": [{"name": 7}]}),
]


@pytest.mark.parametrize("semantics", ["paper", "audited"])
@pytest.mark.parametrize(("reason", "goal", "booked"), ODD)
def test_an_odd_record_gives_a_recorded_reason(reason: str, goal: Any, booked: Any, semantics: Any):
    assert goal_of(dialogue(goal, booked), semantics).excluded == reason
    assert reason in REASONS


@pytest.mark.parametrize("log", [(), ("text",), ({},), ({"metadata": 3}, {"metadata": None})])
def test_a_booking_whose_turns_have_no_metadata_gives_a_reason(log: Any):
    record = Dialogue("X", "val", {"restaurant": {"info": INDIAN, "book": TABLE}}, log)
    assert goal_of(record, "audited").excluded == "no_metadata"


def test_numbers_in_a_goal_are_read_as_text():
    record = dialogue({"hotel": {"info": {"stars": 4, "name": None}}})
    assert goal_of(record, "audited").calls[0].parameters == {"stars": "4"}


def test_a_goal_that_no_row_satisfies_is_excluded_under_audited_only():
    record = dialogue({"restaurant": {"info": INDIAN | {"area": "east"}}})
    assert goal_of(record, "audited").excluded == "no_entity"
    assert goal_of(record, "paper").excluded is None


def test_ids_are_content_hashes_that_tell_semantics_and_parts_apart():
    corpus = corpus_of(TRIP, dinner())
    ids = [
        goal.goal_id
        for semantics in ("paper", "audited")
        for parts in (False, True)
        for goal in derive_goals(corpus, semantics, parts)
    ]
    assert len(set(ids)) == len(ids) == 10
    assert derive_goals(corpus, "paper")[0].goal_id == ids[0]


def test_parts_are_one_domain_each_with_the_lines_that_concern_it():
    train, restaurant = derive_goals(corpus_of(TRIP), "audited", parts=True)
    assert (train.part, restaurant.part) == ("train", "restaurant")
    assert [call.tool for call in train.calls] == ["search_train", "book_train"]
    assert train.message[0] == "You are looking for a train. It should go to ely"
    assert len(train.message) == 4, "departure is said nowhere: a line of its own"
    assert train.message[-1] == "For the train: departure cambridge"
    assert restaurant.message == (
        "You are looking for a place to dine. The restaurant should be in the west",
        "Once you find the restaurant you want to book a table for the same group of people at 18:00 "
        "on the same day as the train booking",
        "Make sure you get the reference number",
        "For the restaurant: food indian, price range expensive, number of people 2, day monday",
    )
    assert [call.tool for call in restaurant.calls] == ["search_restaurant", "book_restaurant"]


def test_an_unusable_part_leaves_the_others_usable():
    record = dialogue({"restaurant": {"info": INDIAN | {"area": "east"}}, "train": {"info": RIDE}})
    parts = derive_goals(corpus_of(record), "audited", parts=True)
    assert [(part.part, part.excluded) for part in parts] == [("train", None), ("restaurant", "no_entity")]


def test_domains_choose_parts_and_whole_goals():
    corpus = corpus_of(TRIP, dinner(), journey())
    assert [g.part for g in derive_goals(corpus, "paper", True, ("train",))] == ["train", "train"]
    assert [g.domains for g in derive_goals(corpus, "paper", False, ("train",))] == [("train",)]


def test_instructions_lose_their_markup_and_know_their_domain():
    lines = instructions(MESSAGE)
    assert lines[1] == "You are looking for a train. It should go to ely"
    assert line_domains(lines) == (None, "train", "train", "train", "restaurant", "restaurant", "restaurant")
    assert instructions("one <b>line</b>") == ("one line",)
    assert instructions({"no": "list"}) == instructions(None) == ()
    assert instructions(["", 3, "x"]) == ("x",)


def test_the_real_validation_list_gives_793_goals():
    corpus = real_corpus()
    paper, audited = derive_goals(corpus, "paper"), derive_goals(corpus, "audited")
    assert len(paper) == len(audited) == 793
    assert [goal.excluded for goal in paper] == [None] * 793
    assert [(g.dialogue_id, g.excluded) for g in audited if g.excluded] == [("PMUL4702", "no_entity")]
    bookings = [call for goal in paper for call in goal.calls if call.tool.startswith("book_")]
    assert len(bookings) == 672
    parts = derive_goals(corpus, "audited", parts=True)
    assert len(parts) == 1439
    assert all(part.message and len(part.tasks) == 1 for part in parts)
