"""What holds for any sequence of calls: agreement of the semantics, monotone rewards, independence."""

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from toolwoz_town import ATTRACTIONS, DATABASES, HOTELS, INDIAN, RESTAURANTS, TRAINS, corpus_of, dialogue, world_in

from josh_pipeline.environments.toolwoz.databases import Database, minutes, normalise
from josh_pipeline.environments.toolwoz.goal import DOMAINS, Goal, Semantics
from josh_pipeline.environments.toolwoz.goals import derive_goals
from josh_pipeline.environments.toolwoz.rules import AUDITED, PAPER
from josh_pipeline.environments.toolwoz.tools import TOOLS, search_parameters
from josh_pipeline.environments.toolwoz.world import ToolWozWorld

RECORD = dialogue(
    {
        "restaurant": {"info": INDIAN, "book": {"people": "2", "day": "monday"}},
        "hotel": {"info": {"area": "north", "internet": "yes"}},
        "attraction": {"info": {"type": "theatre"}},
    },
    {"restaurant": [{"name": "tandoori palace", "reference": "R1"}]},
)
CORPUS = corpus_of(RECORD)
ALL_TIME = dialogue(
    {
        "train": {
            "info": {"leaveAt": "10:00", "day": "monday"},
            "fail_info": {"day": "tuesday"},
            "book": {"people": "1"},
        },
        "attraction": {"info": {"name": "king's college"}},
    },
    {"train": [{"trainID": "TR2", "reference": "T1"}]},
)
TIMED = corpus_of(ALL_TIME)

PLAIN = ["indian", "chinese", "expensive", "west", "centre", "north", "yes", "no", "theatre", "guesthouse", "2"]
PLAIN += ["tandoori palace", "rice boat", "curry garden", "monday", "nowhere", "", "dontcare", "not mentioned"]
TIMES = ["09:00", "10:00", "10:30", "11:31", "9:00", "soon", "TR2", "TR4", "monday", "ely", "King's College"]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(PLAIN + TIMES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
Call = tuple[str, Mapping[str, Any]]


def calls_with(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Call]]:
    """Calls of real tools with some of their parameters."""
    one = st.sampled_from(TOOLS).flatmap(
        lambda tool: st.tuples(
            st.just(tool.name), st.fixed_dictionaries({}, optional=dict.fromkeys(tool.properties, values))
        )
    )
    return st.lists(one, max_size=8)


SEMANTICS = st.sampled_from(["paper", "audited"])
SOME_CALLS = calls_with(st.sampled_from(PLAIN + TIMES) | st.none() | st.integers(0, 4))


def fresh(semantics: Semantics, corpus=TIMED) -> ToolWozWorld:
    (goal,) = derive_goals(corpus, semantics)
    return world_in(corpus, goal, semantics)


def played(world: ToolWozWorld, calls: list[Call]) -> list[Mapping[str, Any]]:
    return [world.call(tool, arguments).payload for tool, arguments in calls]


@given(calls_with(st.sampled_from(PLAIN)))
def test_both_semantics_agree_where_no_repair_applies(calls):
    paper, audited = fresh("paper", CORPUS), fresh("audited", CORPUS)
    without_trains = [(tool, arguments) for tool, arguments in calls if tool != "search_train"]
    assert played(paper, without_trains) == played(audited, without_trains)
    assert paper.milestones() == audited.milestones()


@given(SOME_CALLS, SEMANTICS, st.sampled_from([CORPUS, TIMED]), st.booleans())
def test_the_reward_never_falls_when_a_call_is_added(calls, semantics, corpus, inside_search):
    (goal,) = derive_goals(corpus, semantics)
    world = world_in(corpus, goal, semantics, inside_search)
    before = 0.0
    for tool, arguments in calls:
        world.call(tool, arguments)
        assert before <= world.outcome(()) <= 1.0
        before = world.outcome(())
    assert world.outcome(()) == len(world.milestones()) / len(world.all_milestones)


@given(SOME_CALLS, SEMANTICS, st.sampled_from([CORPUS, TIMED]), st.data())
def test_order_and_repetition_never_matter_to_the_reward(calls, semantics, corpus, data):
    shuffled = data.draw(st.permutations(calls + calls[:3]))
    straight, mixed = fresh(semantics, corpus), fresh(semantics, corpus)
    played(straight, calls)
    played(mixed, shuffled)
    assert straight.milestones() == mixed.milestones()


@given(SOME_CALLS, SOME_CALLS, SEMANTICS)
def test_an_answer_never_depends_on_another_conversation_or_on_earlier_calls(mine, others, semantics):
    alone = [fresh(semantics).call(tool, arguments).payload for tool, arguments in mine]
    world, other = fresh(semantics), fresh(semantics)
    answers = []
    for i, (tool, arguments) in enumerate(mine):
        for stranger in (other, world.fork()):
            for result in played(stranger, others[i:]):
                for row in result.get("rows", ()):
                    row.clear()
        answers.append(world.call(tool, arguments).payload)
    assert answers == alone


@given(ANYTHING, ANYTHING, SEMANTICS)
def test_any_tool_and_any_arguments_give_a_result_that_json_can_hold(tool, arguments, semantics):
    for name in (tool, "search_train", "book_restaurant", "search_hotel"):
        result = fresh(semantics).call(name, arguments)
        assert json.loads(json.dumps(result.payload)) == result.payload
        assert set(result.payload) in ({"error"}, {"rows"}, {"success", "entity", "reference"})


@given(calls_with(ANYTHING), SEMANTICS)
def test_real_tools_with_any_values_give_a_result(calls, semantics):
    world = fresh(semantics)
    for payload in played(world, calls):
        assert len(payload.get("error", "")) < 400


def test_megabytes_of_text_give_a_short_result():
    world = fresh("audited")
    huge = "ü" * 2_000_000
    assert world.call("search_train", {"destination": huge}).payload == {"rows": []}
    for tool, arguments in ((huge, {}), ("search_train", {huge: "x"}), ("search_train", {"day": [huge]})):
        assert len(world.call(tool, arguments).payload["error"]) < 400


def scanned(rows: tuple[Mapping[str, Any], ...], arguments: Mapping[str, str], semantics: Semantics) -> int:
    """The rows a query finds, found the slow way."""
    found = 0
    for i, row in enumerate(rows):
        fits = []
        for key, value in arguments.items():
            wanted = normalise(value)
            if wanted in ("", "dontcare", "not mentioned"):
                continue
            have = row.get(key)
            if semantics == "paper":
                later = {"leaveAt": have and have > wanted, "arriveBy": have and have < wanted}
                fits.append(later.get(key, have == wanted))
            elif key in ("leaveAt", "arriveBy") and minutes(wanted) is not None:
                gap = minutes(have) - minutes(wanted)
                fits.append(gap >= 0 if key == "leaveAt" else gap <= 0)
            else:
                fits.append(normalise(have or "") == wanted)
        found |= all(fits) << i
    return found


TOWN = {"restaurant": RESTAURANTS, "hotel": HOTELS, "attraction": ATTRACTIONS, "train": TRAINS}
INDEXED = {domain: Database(domain, TOWN[domain]) for domain in DOMAINS}


@settings(max_examples=300)
@given(st.sampled_from(DOMAINS), st.data())
def test_indexes_find_what_a_scan_finds(domain, data):
    values = st.sampled_from(PLAIN + TIMES)
    arguments = data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(search_parameters(domain), values)))
    for rules in (PAPER, AUDITED):
        found = rules.matching(INDEXED[domain], rules.served(arguments))
        assert found == scanned(TOWN[domain], arguments, rules.name)


def test_forks_and_worlds_share_their_databases():
    goals: list[Goal] = derive_goals(CORPUS, "audited")
    first, second = (world_in(CORPUS, goals[0], "audited") for _ in range(2))
    assert first._databases is second._databases is first.fork()._databases
    assert set(first._databases) == set(DATABASES)
