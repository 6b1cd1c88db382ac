"""The agents' formats: what is read from a reply, and what the agent is shown."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from josh_pipeline.core.content import content_id
from josh_pipeline.core.errors import RolloutError, UserError
from josh_pipeline.core.messages import Message, ToolCall, visible
from josh_pipeline.core.policy import Completion, Request, Sampling
from josh_pipeline.core.world import CallRecord, Tool, ToolResult, World
from josh_pipeline.dialogue.agents import ERROR_SENTENCE, make_agent
from josh_pipeline.dialogue.conversation import Turn, agent_turn, made_again
from josh_pipeline.policies.chat import structured_calls
from josh_pipeline.settings import load_settings

ROW = {"name": "pizza hut", "food": "italian", "area": "centre", "pricerange": "cheap", "phone": "01223"}
SEARCH = '{"name": "search_restaurant", "parameters": {"food": "italian"}}'
NAMES = ("compact", "function_calling", "react")
GREEDY = Sampling(temperature=0.0, max_tokens=72)


def completion(text: str, calls: tuple[ToolCall, ...] = ()) -> Completion:
    return Completion(text, calls, None, "stop", 0, 0, 0, None)


@dataclass
class Scripted:
    """A policy that answers from a list and keeps what it was asked."""

    texts: list[str]
    digest: str = "scripted"
    asked: list[Request] = field(default_factory=list)

    async def complete(self, request: Request) -> Completion:
        self.asked.append(request)
        return completion(self.texts.pop(0))

    async def close(self) -> None:
        self.texts.clear()


@dataclass(frozen=True)
class Found(ToolResult):
    """Rows, in short the first one without its phone."""

    @property
    def brief(self) -> dict[str, str]:
        return {key: value for key, value in self.payload["rows"][0].items() if key != "phone"}


SEARCH_TOOL = Tool(
    "search_restaurant",
    "Find a restaurant.",
    {
        "type": "object",
        "properties": {
            "food": {"type": "string"},
            "area": {"type": "string", "enum": ["centre", "north"]},
            "seats": {"type": "integer", "minimum": 1},
            "near": {"type": "object", "properties": {"lat": {"type": "number"}}},
            "open": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
        },
        "required": ["food"],
    },
)


class Pizzeria(World):
    """A world of one row; a search for italian food earns milestone 0, a bow at the end of a turn 1.

    Once the agent has spoken, it is offered the bill too.
    """

    instructions = "Help the user."
    all_milestones = frozenset({0, 1})

    def __init__(self) -> None:
        self.earned: frozenset[int] = frozenset()
        self.turns = 0

    @property
    def tools(self) -> tuple[Tool, ...]:
        bill = Tool("bill", "Bring the bill.", {"type": "object", "properties": {}})
        return (SEARCH_TOOL, bill) if self.turns else (SEARCH_TOOL,)

    def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        if tool not in [one.name for one in self.tools]:
            return ToolResult({"error": "There is no such tool."}, error=True)
        if arguments.get("food") == "italian":
            self.earned |= {0}
        return Found({"rows": [ROW]})

    def hand_over(self) -> None:
        self.turns += 1
        if self.turns == 2:
            self.earned |= {1}

    def milestones(self) -> frozenset[int]:
        return self.earned


def take_turn(name: str, texts: list[str], max_requests: int = 3, world: World | None = None) -> tuple[Turn, Scripted]:
    policy = Scripted(texts)
    talk = agent_turn(
        policy,
        make_agent(name, "compact"),
        world or Pizzeria(),
        (Message("user", "Pizza, please."),),
        sampling=GREEDY,
        max_requests=max_requests,
        seed=lambda position: 100 + position,
    )
    return asyncio.run(talk), policy


anything = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(st.characters(), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "parameters", "arguments", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
SAMPLED = (
    '{"name": "search_restaurant", "parameters": {"food": "british", "area": "north", "pricerange": "full"}}',
    '{"name": "book_restaurant", "parameters": {"time": "12:15", "day": "tuesday", "people": "6"}}',
    "sunny tiger is a moderate mexican restaurant in the north.",
    "It is booked, the reference is 2YQ7N4R.",
    '<tool_call>\n{"name": "search_hotel", "arguments": {"area": "north"}}\n</tool_call>',
    'I will look.\n<tool_call>{"name": "search_hotel", "arguments": {"stars": 4, "area": null}}</tool_call>\n'
    '<tool_call>{"name": "search_train", "arguments": {"day": "friday"}}',
    f"PLAN search first\nAPICALL {SEARCH}\nSPEAK How about pizza hut?",
)
"""What models wrote: SmolLM2 after its cold start, and the forms of Hermes and ReAct."""

SURROGATES = ("\\ud800", "\ud800")


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """What a model wrote, with a few spans cut, doubled or replaced."""
    text = draw(st.sampled_from(SAMPLED))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        tokens = ["", text[start:end] * 2, '"', "{", "}}", "\\ud800", "\ud800", "NaN", "</tool_call>", "SPEAK"]
        span = draw(st.sampled_from(tokens) | st.text(st.characters(), max_size=3))
        text = text[:start] + span + text[end:]
    return text


texts = st.one_of(
    st.text(st.characters(), max_size=80),
    st.text(st.sampled_from('{}[]":,\\ \nname parameters APICALL SPEAK PLAN 019eE-+.NaInf\u0000\ud800'), max_size=80),
    anything.map(json.dumps),
    st.text(max_size=20).map(lambda tail: "APICALL " + SEARCH + "\nSPEAK " + tail),
    mutated(),
)
structured = st.builds(
    ToolCall,
    st.sampled_from(["search_restaurant", ""]) | st.text(st.characters(), max_size=8),
    st.dictionaries(st.text(st.characters(), max_size=8), anything, max_size=3),
)
completions = st.builds(completion, texts, st.lists(structured, max_size=2).map(tuple))


def assert_reads(made: Completion) -> None:
    for name in NAMES:
        reply = make_agent(name, "compact").read(made)
        calls = [[call.name, dict(call.arguments)] for call in (*reply.calls, *reply.message.tool_calls)]
        assert_storable([reply.message.content, calls, reply.speech])
        assert (reply.fault is None) == (bool(reply.calls) or reply.speech is not None)
    text, called = structured_calls(made.text)
    assert called or text == made.text
    assert_storable([[call.name, dict(call.arguments)] for call in called])
    again = make_agent("function_calling", "compact").read(completion(text, called))
    assert again.calls == called[:1], "what was read from text is called as it was read"


def assert_storable(value: object) -> None:
    assert len(content_id(value)) == 16
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()


@settings(max_examples=500, deadline=None)
@given(completions)
def test_any_completion_is_read_without_raising(made: Completion) -> None:
    assert_reads(made)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=100_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(completions)
def test_a_hundred_thousand_completions_are_read_without_raising(made: Completion) -> None:
    assert_reads(made)


@pytest.mark.parametrize("depth", [64, 300, 900, 970, 980, 985, 990, 994, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [('{"a":', "}"), ("[", "]")])
def test_arguments_that_nest_too_deep_are_passed_on_as_text(depth: int, opening: str, closing: str) -> None:
    text = '{"name": "x", "arguments": {"b": ' + opening * depth + "1" + closing * depth + "}}"
    _, calls = structured_calls(text)
    for call in calls:
        assert call == ToolCall("x", {"arguments": text})
        assert_storable([[[call.arguments]]])


@pytest.mark.parametrize(
    "text",
    [
        "{",
        '{"name": "search_hotel"}',
        '{"name": "search_hotel", "parameters": []}',
        '{"name": 3, "parameters": {}}',
        '{"name": "x", "parameters": {}, "more": 1}',
        '{"name": "x", "parameters": {"a": NaN}}',
        '{"name": "x", "parameters": {"a": 1e999}}',
        '{"name": "x", "parameters": {"a": "\\ud800"}}',
        '{"name": "x", "parameters": {"a": "\\u0000"}}',
        SEARCH + " Let me look.",
        '{"a":' * 100_000,
        "",
        "  \n",
    ],
)
def test_a_compact_reply_that_is_neither_call_nor_sentence_is_a_fault(text: str) -> None:
    reply = make_agent("compact", "compact").read(completion(text))
    assert reply.fault is not None
    assert (reply.calls, reply.speech) == ((), None)


def test_a_compact_call_keeps_its_raw_text_beside_the_parsed_call() -> None:
    reply = make_agent("compact", "compact").read(completion(f" {SEARCH}\n"))
    assert reply.message == Message("assistant", SEARCH, (ToolCall("search_restaurant", {"food": "italian"}),))


def test_only_the_first_structured_call_of_a_reply_is_executed() -> None:
    calls = (ToolCall("a", {}), ToolCall("b", {}))
    reply = make_agent("function_calling", "full").read(completion("Looking.", calls))
    assert reply.calls == reply.message.tool_calls == calls[:1]


def test_react_executes_every_call_in_order_and_speaks_what_follows_speak() -> None:
    text = f"PLAN look twice\nAPICALL {SEARCH}\nAPICALL {SEARCH}\nSPEAK Two\nlines.\nSPEAK never said"
    reply = make_agent("react", "full").read(completion(text))
    assert [call.name for call in reply.calls] == ["search_restaurant"] * 2
    assert reply.speech == reply.message.spoken == "Two\nlines."


def test_react_without_a_command_or_with_a_broken_call_is_a_fault() -> None:
    agent = make_agent("react", "full")
    assert agent.read(completion("Hello!")).fault
    assert agent.read(completion("APICALL search_restaurant()\nSPEAK hi")).fault


def test_a_result_in_short_is_what_the_environment_says_and_an_error_is_marked_and_whole() -> None:
    call, found = ToolCall("search_restaurant", {}), Found({"rows": [ROW]})
    failed = ToolResult({"error": "No such tool.", "hint": "bill"}, error=True)
    for name in NAMES:
        short, whole = make_agent(name, "compact"), make_agent(name, "full")
        assert short.results([(call, found)])[0].content.endswith(json.dumps(found.brief))
        assert whole.results([(call, found)])[0].content.endswith(json.dumps(found.payload))
        for agent in (short, whole):
            (told,) = agent.results([(call, failed)])
            assert told.error and told.content.endswith(json.dumps(failed.payload))


def test_the_compact_system_prompt_is_short_and_lists_one_signature_a_line() -> None:
    rules, *tools = make_agent("compact", "compact").system(Pizzeria()).content.split("\n")
    assert tools == ["search_restaurant(food, area, seats, near, open)"]
    assert len(rules.split()) <= 60


def test_react_writes_values_and_types_of_parameters_that_are_not_any_text() -> None:
    *_, tool = make_agent("react", "compact").system(Pizzeria()).content.split("\n")
    signature = "search_restaurant(food, area: centre | north, seats: integer, near: object, open)"
    assert tool == f"{signature}: Find a restaurant."


def test_the_chat_api_gets_the_schema_of_the_parameters_as_the_environment_gave_it() -> None:
    (schema,) = make_agent("function_calling", "full").schemas(Pizzeria())
    assert schema == {
        "type": "function",
        "function": {
            "name": "search_restaurant",
            "description": "Find a restaurant.",
            "parameters": SEARCH_TOOL.parameters,
        },
    }


def test_schemas_travel_with_the_request_only_where_the_format_uses_them() -> None:
    (schema,) = make_agent("function_calling", "full").schemas(Pizzeria())
    area = schema["function"]["parameters"]["properties"]["area"]
    assert area == {"type": "string", "enum": ["centre", "north"]}
    assert make_agent("compact", "full").schemas(Pizzeria()) == ()


def test_a_turn_calls_then_speaks_and_records_what_each_call_earned() -> None:
    turn, policy = take_turn("compact", [SEARCH, "pizza hut is in the centre."])
    assert [m.role for m in turn.messages] == ["assistant", "tool", "assistant"]
    assert (turn.calls[0].earned, turn.calls[0].error, turn.error_turn) == ((0,), False, False)
    assert [request.seed for request in policy.asked] == [100, 101]
    assert policy.asked[1].messages[-1].role == "tool"
    assert [m.content for m in visible(turn.messages)] == ["pizza hut is in the centre."]


def test_a_second_call_for_the_same_thing_earns_nothing_new() -> None:
    turn, _ = take_turn("compact", [SEARCH, SEARCH, "There."])
    assert [call.earned for call in turn.calls] == [(0,), ()]


def test_a_turn_that_never_speaks_ends_with_an_error_sentence() -> None:
    turn, policy = take_turn("compact", [SEARCH] * 5)
    assert turn.error_turn and len(policy.asked) == len(turn.completions) == 3
    assert turn.messages[-1] == Message("assistant", ERROR_SENTENCE, error=True)


def test_a_faulty_reply_costs_a_request_is_answered_and_stays_hidden_from_the_user() -> None:
    turn, policy = take_turn("compact", ['{"name": oops', "Sorry."])
    assert len(policy.asked) == 2 and not turn.error_turn
    assert turn.messages[1].role == "tool" and turn.messages[1].error
    assert "error" in json.loads(turn.messages[1].content)
    assert [m.content for m in visible(turn.messages)] == ["Sorry."]


def test_a_react_reply_may_call_and_speak_at_once() -> None:
    turn, _ = take_turn("react", [f"APICALL {SEARCH}\nSPEAK One moment."])
    assert [m.role for m in turn.messages] == ["assistant", "tool"]
    assert [m.content for m in visible(turn.messages)] == ["One moment."]


def test_tools_that_come_with_a_hand_over_are_offered_from_the_next_turn_on() -> None:
    world = Pizzeria()
    first, before = take_turn("compact", ['{"name": "bill", "parameters": {}}', "One moment."], world=world)
    second, after = take_turn("compact", ['{"name": "bill", "parameters": {}}', "Here."], world=world)
    assert [turn.calls[0].error for turn in (first, second)] == [True, False]
    prompts = [policy.asked[0].messages[0].content for policy in (before, after)]
    assert ["bill()" in prompt for prompt in prompts] == [False, True]


def test_what_was_recorded_is_made_again_with_its_hand_overs() -> None:
    world = Pizzeria()
    messages: tuple[Message, ...] = ()
    calls: tuple[CallRecord, ...] = ()
    for texts in ([SEARCH, "Well."], ['{"name": "bill", "parameters": {}}'] * 3, [SEARCH, "There."]):
        turn, _ = take_turn("compact", texts, world=world)
        messages += (Message("user", "And?"), *turn.messages)
        calls += turn.calls
    fresh = Pizzeria()
    again = made_again(fresh, messages, calls)
    assert (fresh.turns, fresh.earned) == (world.turns, world.earned) == (3, {0, 1})
    assert [earned for _, earned in again] == [(0,), (), (), (), ()]
    assert [result.error for result, _ in again] == [call.error for call in calls] == [False] * 5


def test_a_part_of_a_conversation_is_made_again_on_the_state_before_it() -> None:
    world = Pizzeria()
    take_turn("compact", ["Hello."], world=world)
    state = world.fork()
    turn, _ = take_turn("react", [f"APICALL {SEARCH}\nSPEAK One moment."], world=world)
    ((result, earned),) = made_again(state, turn.messages, turn.calls)
    assert (result.payload, earned) == ({"rows": [ROW]}, (0,))
    assert (state.turns, state.earned) == (world.turns, world.earned) == (2, {0, 1})


def test_a_call_that_the_world_answers_differently_is_seen_when_it_is_made_again() -> None:
    turn, _ = take_turn("compact", [SEARCH, "There."])
    forged = replace(turn.calls[0], tool="bill", earned=(1,))
    ((result, earned),) = made_again(Pizzeria(), turn.messages, [forged])
    assert result.error and earned == ()


def test_a_policy_failure_leaves_the_turn_as_a_typed_error() -> None:
    class Broken(Scripted):
        async def complete(self, request: Request) -> Completion:
            raise RolloutError("endpoint", "The server is gone.")

    talk = agent_turn(
        Broken([]),
        make_agent("compact", "compact"),
        Pizzeria(),
        (),
        sampling=GREEDY,
        max_requests=3,
        seed=lambda position: position,
    )
    with pytest.raises(RolloutError, match="gone"):
        asyncio.run(talk)


def test_an_unknown_agent_is_refused_by_the_settings() -> None:
    with pytest.raises(UserError, match=r"policy\.agent: Input should be 'compact'"):
        load_settings("quickstart", {"policy": {"agent": "verbose"}})
