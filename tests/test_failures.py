"""Why a goal was lost, in a town small enough to work it out by hand."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from finished_home import finished_home
from rich.console import Console
from toolwoz_town import INDIAN, corpus_of, dinner, environment_of

from josh_pipeline.cli.failures import table
from josh_pipeline.cli.main import main
from josh_pipeline.core.errors import ErrorKind
from josh_pipeline.core.messages import Conversation, Message
from josh_pipeline.core.world import CallRecord, called
from josh_pipeline.environments.toolwoz.agenda import GAVE_UP
from josh_pipeline.evaluation.benchmark import Episode
from josh_pipeline.evaluation.failures import Failure, by_ending, counted, failure_of
from josh_pipeline.report.data import LostGoals
from josh_pipeline.search.tree import Usage

ENVIRONMENT = environment_of(corpus_of(dinner()), parts=False)
(GOAL,) = ENVIRONMENT.tasks()
SEARCH = ("search_restaurant", INDIAN)
TABLE = {"people": "2", "day": "monday", "time": "18:00"}
ASKED = Message("user", "An expensive Indian restaurant in the west for 2 on Monday at 18:00, please.")
BOOKED = Message("assistant", "Your table is booked.")


def played(*calls: tuple[str, dict[str, Any]], words: Conversation = (ASKED,), **more: Any) -> Episode:
    """A conversation with these calls; what they earn, the world says."""
    world = ENVIRONMENT.world(GOAL)
    records = []
    for tool, arguments in calls:
        before = world.milestones()
        result = called(world, tool, arguments)
        earned = tuple(sorted(world.milestones() - before))
        records.append(CallRecord(tool, arguments, result.payload, result.brief, result.error, earned))
    about: dict[str, Any] = {"turns": 2, "error_turns": 0, "user_done": True, "failure": None, "failure_message": None}
    return Episode(
        "episode", GOAL.goal_id, "policy", 0, "settings", 0, words, tuple(records),
        tuple(sorted(world.milestones())), world.outcome(words), usage=Usage(), **about | more,
    )  # fmt: skip


def lost(episode: Episode) -> Failure:
    assert not episode.success
    return failure_of(ENVIRONMENT, GOAL, episode)


NORTH = {**INDIAN, "area": "north"}
CENTRE = {**INDIAN, "name": "tandoori palace", "area": "centre"}


@pytest.mark.parametrize(
    ("calls", "tool", "why", "detail"),
    [
        ([], "search_restaurant", "never called", ""),
        ([("search_restaurant", {"food": "indian"})], "search_restaurant", "left an argument out", "pricerange, area"),
        ([("search_restaurant", NORTH)], "search_restaurant", "wrong value", "area: north for west"),
        ([("search_restaurant", {**INDIAN, "name": "dojo"})], "search_restaurant", "argument that nobody asked for",
         "name"),
        ([("search_restaurant", {"colour": "red"})], "search_restaurant", "refused: unknown parameter", ""),
        ([SEARCH], "book_restaurant", "never called", ""),
        ([SEARCH, ("book_restaurant", {**TABLE, "name": "rice boat"})], "book_restaurant", "wrong result picked",
         "name: rice boat for tandoori palace"),
        ([SEARCH, ("book_restaurant", {"name": "tandoori palace"})], "book_restaurant", "left an argument out",
         "people, day, time"),
    ],
)  # fmt: skip
def test_the_closest_call_says_what_was_wrong(calls: list[Any], tool: str, why: str, detail: str) -> None:
    found = lost(played(*calls))
    assert (found.tool, found.why, set(found.detail.split(", "))) == (tool, why, set(detail.split(", ")))
    assert found.milestone == [call.tool for call in GOAL.calls].index(tool) and found.ended == "the user left"


def test_of_several_calls_the_closest_counts() -> None:
    found = lost(played(("search_restaurant", {"food": "thai"}), ("search_restaurant", NORTH)))
    assert (found.why, found.detail) == ("wrong value", "area: north for west")


def test_a_booking_that_was_only_said_is_claimed() -> None:
    assert lost(played(SEARCH, words=(ASKED, BOOKED))).why == "claimed, not made"


def test_a_search_that_nobody_made_is_not_claimed_by_a_booking_that_somebody_said() -> None:
    assert lost(played(words=(ASKED, BOOKED))).why == "never called"


@pytest.mark.parametrize(
    ("more", "why", "ended"),
    [
        ({"words": (ASKED, Message("user", GAVE_UP))}, "the user gave up", "the user gave up"),
        ({"words": (ASKED, Message("assistant", "Hm."))}, "never called", "the user fell silent"),
        ({"user_done": False}, "message limit", "message limit"),
        ({"error_turns": 1}, "unreadable or endless turn", "the user left"),
        ({"failure": "timeout", "user_done": False}, "failed: timeout", "timeout"),
    ],
)
def test_what_was_never_called_is_told_by_how_it_ended(more: dict[str, Any], why: ErrorKind, ended: str) -> None:
    found = lost(played(**more))
    assert (found.why, found.ended) == (why, ended)


def test_a_wrong_call_and_how_the_conversation_ended_are_told_apart() -> None:
    left, gave_up, silent, limit = (
        lost(played(("search_restaurant", NORTH), **more))
        for more in ({}, {"words": (ASKED, Message("user", GAVE_UP))}, {"words": (ASKED, BOOKED)}, {"user_done": False})
    )
    assert {one.why for one in (left, gave_up, silent, limit)} == {"wrong value"}
    counts = by_ending([limit, left, silent, gave_up, gave_up, lost(played(failure="timeout", user_done=False))])
    assert list(counts.items()) == [
        ("the user gave up", 2), ("the user left", 1), ("the user fell silent", 1), ("message limit", 1),
        ("timeout", 1),
    ]  # fmt: skip
    screen = io.StringIO()
    Console(file=screen, width=100).print(table(LostGoals("base", "test", 9, (left, gave_up, gave_up, limit))))
    lines = [line.split() for line in screen.getvalue().splitlines()]
    assert ["search_restaurant", "wrong", "value", "4", "2", "1", "1"] in lines and ["all", "4", "2", "1", "1"] in lines


def test_counts_begin_with_what_happens_most() -> None:
    some = [lost(played()), lost(played(SEARCH)), lost(played(SEARCH))]
    assert counted(some) == {("book_restaurant", "never called"): 2, ("search_restaurant", "never called"): 1}
    assert next(iter(counted(some))) == ("book_restaurant", "never called")


def test_the_command_tells_of_every_goal_that_an_iteration_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = finished_home(tmp_path, rounds=0, right=0.4)
    rates = {
        row["iteration"]: (row["n"] - row["won"], row["n"])
        for row in home.warehouse().rows(
            "SELECT iteration, n, round(n * success_rate)::INT AS won FROM current_evaluations "
            "WHERE side = 'after' AND role = 'test'"
        )
    }
    number, goals = rates["000"]
    assert number > 0
    assert main(["failures", "0", "--home", str(home.root), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == number and all(line["why"] and line["tool"] for line in lines)
    assert main(["failures", "0", "--home", str(home.root)]) == 0
    said = capsys.readouterr().out
    assert f"{number} of {goals} goals lost, test" in said and all(line["why"] in said for line in lines)
    assert main(["failures", "7", "--home", str(home.root)]) == 1
