"""Each line of the serving rule and of the reward rule, worked out by hand, under both semantics."""

from typing import Any

import pytest
from toolwoz_town import (
    BOAT,
    CURRY,
    INDIAN,
    PALACE,
    RESTAURANTS,
    RIDE,
    TRAINS,
    WOK,
    dialogue,
    dinner,
    journey,
    world_of,
)

from josh_pipeline.environments.toolwoz.goal import Semantics

BOTH: tuple[Semantics, ...] = ("paper", "audited")
FOOD = {"food": "indian"}
WHOLE_BOOKING = {"people": "2", "day": "monday", "time": "18:00", "name": "tandoori palace"}

BOOKED = [
    ("the whole goal: the target", INDIAN, PALACE, True),
    ("more than the goal, with the target", INDIAN | {"name": "tandoori palace"}, PALACE, True),
    ("more than the goal, without the target: nothing", INDIAN | {"name": "rice boat"}, None, False),
    ("less than the goal: the last wrong row", FOOD, CURRY, False),
    ("no argument: the last wrong row", {}, CURRY, False),
    ("less than the goal, all rows right: the target", {"pricerange": "expensive", "area": "west"}, PALACE, True),
    ("neither more nor less: the first row", FOOD | {"area": "centre"}, CURRY, False),
    ("neither more nor less, though it is the target", FOOD | {"name": "tandoori palace"}, PALACE, False),
    ("no row", INDIAN | {"food": "thai"}, None, False),
]
SEARCHED = [
    ("the whole goal: the first row, not the wrong one", INDIAN, BOAT, True),
    ("more than the goal", INDIAN | {"name": "tandoori palace"}, PALACE, True),
    ("less than the goal: the last wrong row", FOOD, CURRY, False),
    ("less than the goal, all rows right: the first", {"pricerange": "expensive", "area": "west"}, BOAT, True),
    ("neither more nor less: the first row", FOOD | {"area": "centre"}, CURRY, False),
    ("no row", INDIAN | {"food": "thai"}, None, False),
]


def check_search(record: Any, semantics: Semantics, arguments: dict[str, str], row: int | None, earns: bool) -> None:
    world = world_of(record, semantics)
    result = world.call("search_restaurant", arguments)
    assert result.payload == {"rows": [] if row is None else [RESTAURANTS[row]]}
    assert world.milestones() == ({0} if earns else set())


@pytest.mark.parametrize("semantics", BOTH)
@pytest.mark.parametrize(("case", "arguments", "row", "earns"), BOOKED, ids=[c[0] for c in BOOKED])
def test_a_search_of_a_goal_with_a_booking_serves_and_earns(
    case: str, arguments: dict[str, str], row: int | None, earns: bool, semantics: Semantics
) -> None:
    check_search(dinner(), semantics, arguments, row, earns)


@pytest.mark.parametrize("semantics", BOTH)
@pytest.mark.parametrize(("case", "arguments", "row", "earns"), SEARCHED, ids=[c[0] for c in SEARCHED])
def test_a_search_of_a_goal_without_a_booking_serves_and_earns(
    case: str, arguments: dict[str, str], row: int | None, earns: bool, semantics: Semantics
) -> None:
    check_search(dinner(booked=None), semantics, arguments, row, earns)


@pytest.mark.parametrize("semantics", BOTH)
def test_in_short_a_result_holds_the_number_of_matches_and_what_an_offer_needs(semantics: Semantics) -> None:
    world = world_of(dinner(), semantics)
    fields = {key: RESTAURANTS[PALACE][key] for key in ("name", "food", "area", "pricerange")}
    assert world.call("search_restaurant", INDIAN).brief == {"matches": 2} | fields
    assert world.call("search_restaurant", {"food": "thai"}).brief == {"matches": 0}
    assert world.call("book_restaurant", WHOLE_BOOKING).brief == {"success": True, "reference": "R1"}
    assert world.call("book_restaurant", {}).brief == {"success": False}
    refused = world.call("book_bus", {})
    assert refused.error and refused.brief == refused.payload


@pytest.mark.parametrize("semantics", BOTH)
def test_a_domain_outside_the_goal_serves_its_first_row_and_earns_nothing(semantics: Semantics) -> None:
    world = world_of(journey(), semantics)
    result = world.call("search_restaurant", {})
    assert result.payload == {"rows": [RESTAURANTS[WOK]]}
    assert result.matches == len(RESTAURANTS)
    assert world.milestones() == set()


def test_paper_serves_a_wrong_row_to_the_whole_goal_where_the_target_is_missing() -> None:
    world = world_of(journey(booked="TR9", leaveAt="09:30"), "paper")
    result = world.call("search_train", RIDE | {"leaveAt": "09:30"})
    assert result.payload == {"rows": [TRAINS[2]]}, "no row leaves at 09:30 sharp: the last of TR2 and TR3"
    assert world.milestones() == set()


def test_paper_counts_times_when_it_looks_for_wrong_rows() -> None:
    partial = RIDE | {"leaveAt": "09:00"}
    paper, audited = (world_of(journey(booked="TR2", leaveAt="09:00", arriveBy="11:00"), s) for s in BOTH)
    assert paper.call("search_train", partial).payload == {"rows": [TRAINS[2]]}
    assert paper.milestones() == set()
    assert audited.call("search_train", partial).payload == {"rows": [TRAINS[2]]}, "11:30 is past 11:00"
    on_time = RIDE | {"arriveBy": "11:00"}
    assert paper.call("search_train", on_time).payload == {"rows": [TRAINS[1]]}
    assert audited.call("search_train", on_time).payload == {"rows": [TRAINS[1]]}
    assert paper.milestones() == audited.milestones() == {0}


@pytest.mark.parametrize("semantics", BOTH)
@pytest.mark.parametrize(
    ("arguments", "success"),
    [
        (WHOLE_BOOKING, True),
        (WHOLE_BOOKING | {"name": "Tandoori PALACE", "day": "Monday"}, True),
        ({k: v for k, v in WHOLE_BOOKING.items() if k != "time"}, False),
        (WHOLE_BOOKING | {"people": "3"}, False),
        (WHOLE_BOOKING | {"name": "rice boat"}, False),
        ({}, False),
    ],
)
def test_a_booking_succeeds_and_earns_when_its_arguments_contain_the_goals(
    arguments: dict[str, str], success: bool, semantics: Semantics
) -> None:
    world = world_of(dinner(), semantics)
    payload = world.call("book_restaurant", arguments).payload
    expected = {"success": True, "entity": "tandoori palace", "reference": "R1"}
    assert payload == (expected if success else {"success": False, "entity": None, "reference": None})
    assert world.milestones() == ({1} if success else set())


@pytest.mark.parametrize("semantics", BOTH)
@pytest.mark.parametrize("tool", ["book_restaurant", "book_hotel"])
def test_a_booking_that_the_goal_does_not_have_fails(tool: str, semantics: Semantics) -> None:
    world = world_of(dinner(booked=None), semantics)
    assert world.call(tool, {"name": "acorn"}).payload["success"] is False
    assert world.milestones() == set()


@pytest.mark.parametrize("semantics", BOTH)
def test_a_booking_earns_whatever_was_returned_even_an_error(semantics: Semantics) -> None:
    world = world_of(dinner(), semantics)
    assert world.call("book_restaurant", WHOLE_BOOKING | {"table": "7"}).error
    assert world.milestones() == {1}


@pytest.mark.parametrize("semantics", BOTH)
def test_a_search_that_returned_an_error_earns_nothing(semantics: Semantics) -> None:
    world = world_of(dinner(), semantics)
    assert world.call("search_restaurant", INDIAN | {"stars": "4"}).error
    assert world.call("search_restaurant", INDIAN | {"name": ["tandoori palace"]}).error
    assert world.milestones() == set()


@pytest.mark.parametrize("semantics", BOTH)
def test_the_outcome_is_the_share_of_earned_calls_and_each_is_earned_once(semantics: Semantics) -> None:
    world = world_of(dinner(), semantics)
    assert world.outcome(()) == 0.0
    for _ in range(2):
        world.call("search_restaurant", INDIAN)
        assert world.outcome(()) == 0.5
    world.call("book_restaurant", WHOLE_BOOKING)
    assert world.outcome(()) == 1.0
    assert world.milestones() == world.all_milestones == {0, 1}


@pytest.mark.parametrize("semantics", BOTH)
def test_a_fork_goes_its_own_way(semantics: Semantics) -> None:
    world = world_of(dinner(), semantics)
    world.call("search_restaurant", INDIAN)
    fork = world.fork()
    fork.call("book_restaurant", WHOLE_BOOKING)
    assert (world.outcome(()), fork.outcome(())) == (0.5, 1.0)


@pytest.mark.parametrize("inside_search", [True, False])
def test_paper_forgets_the_booking_inside_the_search_once_it_is_earned(inside_search: bool) -> None:
    # The booked entity lies in the centre, so the goal's own search never returns it.
    world = world_of(dinner(booked="curry garden"), "paper", inside_search)
    world.call("search_restaurant", {"area": "west", "food": "indian"})
    assert world.milestones() == set()
    world.call("book_restaurant", WHOLE_BOOKING | {"name": "curry garden"})
    world.call("search_restaurant", {"area": "west", "food": "indian"})
    assert world.milestones() == ({0, 1} if inside_search else {1})


def test_a_goal_that_names_a_domain_without_searching_it_is_served_the_first_row() -> None:
    world = world_of(dialogue({"hotel": {"info": {}, "reqt": ["phone"]}, "restaurant": {"info": INDIAN}}), "paper")
    rows = world.call("search_hotel", {"area": "north"}).payload["rows"]
    assert [row["name"] for row in rows] == ["acorn"]


@pytest.mark.parametrize("tool", ["book_taxi", "book_hospital"])
def test_tools_of_the_published_list_that_always_fail_exist_under_paper_only(tool: str) -> None:
    paper, audited = (world_of(dinner(), s) for s in BOTH)
    assert paper.call(tool, {}).payload["success"] is False
    assert paper.call(tool, {"phone": "1"}).error
    assert audited.call(tool, {}).error


@pytest.mark.parametrize("semantics", BOTH)
@pytest.mark.parametrize("tool", ["search_taxi", "search_hospital", "search", "search_hotel_x", "", "book_bus"])
def test_tools_that_do_not_exist_give_an_error_result(tool: str, semantics: Semantics) -> None:
    assert world_of(dinner(), semantics).call(tool, {}).error


def test_returned_rows_are_copies_that_cannot_change_the_database() -> None:
    record = dinner()
    row = world_of(record, "audited").call("search_restaurant", INDIAN).payload["rows"][0]
    row["name"], row["location"][0] = "changed", 0.0
    assert RESTAURANTS[PALACE]["name"] == "tandoori palace"
    assert RESTAURANTS[PALACE]["location"] == [52.2, 0.1]
