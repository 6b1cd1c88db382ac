"""The simulated users: what they say is a function of goal, seed and what they heard."""

import asyncio
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toolwoz_town import corpus_of, environment_of

from josh_pipeline.core.errors import RolloutError, UserError
from josh_pipeline.core.messages import Conversation, Message
from josh_pipeline.core.policy import Completion, Policy, Request
from josh_pipeline.core.user import User
from josh_pipeline.dialogue.users import UserKind, make_user
from josh_pipeline.environments.toolwoz.agenda import PATIENCE, AgendaUser
from josh_pipeline.environments.toolwoz.corpus import Dialogue
from josh_pipeline.environments.toolwoz.goal import DomainTask, Goal, GroundTruthCall
from josh_pipeline.environments.toolwoz.hearing import contradictions, hear
from josh_pipeline.evaluation.playing import user_name
from josh_pipeline.settings import load_settings

INFO = {"food": "italian", "area": "centre", "pricerange": "cheap"}
BOOK = {"time": "12:15", "day": "monday", "people": "3"}
OFFER = "pizza hut is a cheap italian restaurant in the centre."
NO_MATCH = "Sorry, nothing matches that."
BOOKED = "It is booked, the reference is AB12CD34."
DIALOGUE = Dialogue(
    "X1", "val", {}, tuple({"text": text} for text in ("A table, please.", "Where?", " In town. ", "Done."))
)


def goal(
    info: dict[str, str] = INFO,
    book: dict[str, str] = BOOK,
    fail_info: dict[str, str] | None = None,
    fail_book: dict[str, str] | None = None,
) -> Goal:
    search = GroundTruthCall("search_restaurant", info, None)
    booking = GroundTruthCall("book_restaurant", {**book, "name": "pizza hut"}, {"name": "pizza hut"})
    task = DomainTask("restaurant", info, fail_info or {}, book, fail_book or {}, ())
    return Goal(
        goal_id="g1",
        source_id="X1",
        split="val",
        role="val",
        kind="part",
        title="restaurant part of X1",
        part="restaurant",
        message=("You want an italian restaurant", "Book it for 3 people"),
        tasks=(task,),
        calls=(search, booking) if book else (search,),
        excluded=None,
    )


def made(kind: UserKind, model: Policy | None = None, dialogue: Dialogue = DIALOGUE) -> User:
    """The user of ``goal()`` by its kind."""
    return make_user(environment_of(corpus_of(dialogue)), goal(), kind, 8, 0, model)


def talk(user: AgendaUser, *speeches: str) -> list[str]:
    """Let the agent say these in turn; return what the user said, '' for the silent end."""
    said: list[str] = []
    conversation: Conversation = ()
    for speech in (*speeches, None):
        reply = asyncio.run(user.reply(conversation))
        said.append(reply.text)
        if reply.done or speech is None:
            break
        conversation += (Message("user", reply.text), Message("assistant", speech))
    return said


def seeds_where(condition, a_goal: Goal, count: int = 60):  # type: ignore[no-untyped-def]
    users = [AgendaUser(a_goal, seed, 8) for seed in range(count)]
    chosen = [user for user in users if condition(user.plan)]
    assert chosen, "no seed gives such a user"
    return chosen


def test_the_same_prefix_always_gets_the_same_answer() -> None:
    speeches = (OFFER, OFFER, "For how many people?", "At what time?", BOOKED)
    assert talk(AgendaUser(goal(), 3, 8), *speeches) == talk(AgendaUser(goal(), 3, 8), *speeches)


def test_two_forks_share_the_answers_before_they_part() -> None:
    user = AgendaUser(goal(), 5, 8)
    left, right = talk(user, OFFER, OFFER), talk(user, OFFER, NO_MATCH)
    assert left[:2] == right[:2] and left[2] != right[2]


def test_seeds_vary_the_words() -> None:
    assert len({talk(AgendaUser(goal(), seed, 8))[0] for seed in range(20)}) > 8


def test_every_value_is_said_word_for_word_before_the_user_is_content() -> None:
    for seed in range(60):
        said = talk(AgendaUser(goal(), seed, 8), *[OFFER] * 3, "How many people, which day, what time?", BOOKED)
        everything = " ".join(said)
        assert all(value in everything for value in (*INFO.values(), *BOOK.values())), said


def test_a_slot_or_two_are_revealed_a_turn() -> None:
    user = seeds_where(lambda plan: plan.opening_size == 2, goal())[0]
    opening, second, *_ = talk(user, OFFER, OFFER)
    assert sum(value in opening for value in INFO.values()) == 2
    assert sum(value in second for value in INFO.values()) == 1


def test_a_question_is_answered_with_what_was_asked() -> None:
    user = seeds_where(lambda p: p.opening_size == 2 and list(p.domains[0].wishes)[2] == "area", goal())[0]
    assert talk(user, "Which area do you want?")[-1] == "The centre, please."


def test_what_fails_is_tried_first_and_then_replaced() -> None:
    failing = goal(fail_info={**INFO, "food": "korean"})
    for user in seeds_where(lambda p: p.opening_size == 3, failing):
        opening, change, *_ = talk(user, NO_MATCH, OFFER)
        assert "korean" in opening and "italian" not in opening
        assert "italian" in change and "korean" not in change


def test_a_user_with_failing_wishes_changes_its_mind_even_when_something_is_offered() -> None:
    failing = goal(fail_info={**INFO, "food": "korean"})
    (user, *_) = seeds_where(lambda p: p.opening_size == 3, failing)
    assert "italian" in talk(user, "How about seoul house?")[-1]


def test_a_booking_that_fails_is_asked_for_first_and_then_changed() -> None:
    failing = goal(fail_book={**BOOK, "time": "20:00"})
    (user, *_) = seeds_where(lambda p: p.opening_size == 3 and p.domains[0].held is None, failing)
    _, request, change, end = talk(user, OFFER, "Sorry, that booking is not available.", BOOKED)
    assert "20:00" in request and "12:15" in change
    assert "bye" in end.lower() or "thanks" in end.lower()


def test_an_offer_that_contradicts_a_wish_is_corrected() -> None:
    (user, *_) = seeds_where(lambda p: p.opening_size == 3, goal())
    answer = talk(user, "nandos is a cheap italian restaurant in the north.")[-1]
    assert "centre" in answer and "book" not in answer


def test_a_user_insists_when_all_was_told_and_nothing_is_said_to_match() -> None:
    (user, *_) = seeds_where(lambda p: p.opening_size == 3, goal())
    assert all(value in talk(user, NO_MATCH)[-1] for value in INFO.values())


def test_a_booking_that_was_not_confirmed_is_asked_for_again() -> None:
    (user, *_) = seeds_where(lambda p: p.opening_size == 3 and p.domains[0].held is None, goal())
    assert all(value in talk(user, OFFER, OFFER)[-1] for value in BOOK.values())


def test_a_held_detail_is_said_only_when_asked() -> None:
    held = seeds_where(lambda p: p.opening_size == 3 and p.domains[0].held == "people", goal(), 200)
    for user in held:
        _, request, detail = talk(user, OFFER, "For how many people?")
        assert "3" not in request and "12:15" in request
        assert detail == "For 3 people, please."


def test_about_a_third_of_the_bookings_hold_a_detail_back() -> None:
    held = sum(AgendaUser(goal(), seed, 8).plan.domains[0].held is not None for seed in range(1000))
    assert 300 < held < 400


def test_a_stuck_user_gives_up() -> None:
    (user, *_) = seeds_where(lambda p: p.opening_size == 3, goal())
    said = talk(user, *["Hmm."] * 7)
    assert len(said) == 1 + PATIENCE and "Never mind" in said[-1]


def test_a_booking_that_nobody_made_is_not_asked_for() -> None:
    planned = replace(goal(book={}), tasks=goal().tasks)
    said = talk(AgendaUser(planned, 0, 8), *[OFFER] * 5)
    assert not any("book" in text.lower() for text in said)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(max_size=30) | st.sampled_from([OFFER, NO_MATCH, BOOKED, "What day?"])), st.integers())
def test_whatever_it_hears_the_user_ends_within_its_turns(speeches: list[str], seed: int) -> None:
    said = talk(AgendaUser(goal(fail_info={"food": "korean"}), seed, 8), *speeches, *["Hm."] * 9)
    assert 1 <= len([text for text in said if text]) <= 8


@pytest.mark.parametrize(
    ("speech", "waiting", "kind"),
    [
        (OFFER, False, "offer"),
        ("TR1234 leaves at 09:00 and arrives at 10:00.", False, "offer"),
        ("I found 3 restaurants. How about Pizza Hut?", False, "offer"),
        ("No problem! I recommend the Curry Garden, it is in the centre.", False, "offer"),
        (NO_MATCH, False, "no_match"),
        ("I'm sorry, there are no Korean restaurants in the centre.", False, "no_match"),
        ("I couldn't find any restaurant like that. Would you like another area?", False, "no_match"),
        ("Unfortunately there isn't one in the north.", False, "no_match"),
        ("What area would you like?", False, "question"),
        ("Sorry, something went wrong on my side.", False, "noise"),
        ("Hmm", False, "noise"),
        (BOOKED, True, "booked"),
        ("Booked! Your reference number is 8UX5.", True, "booked"),
        ("Your table has been reserved for monday.", True, "booked"),
        ("I have booked it for 3 people.", True, "booked"),
        ("The booking was successful.", True, "booked"),
        ("Sorry, that booking is not available.", True, "not_booked"),
        ("I was unable to book it.", True, "not_booked"),
        ("The booking was unsuccessful.", True, "not_booked"),
        ("Shall I go ahead and book it for you?", True, "question"),
        ("For how many people?", True, "question"),
        (OFFER, True, "noise"),
    ],
)
def test_sentences_are_understood_by_their_keywords(speech: str, waiting: bool, kind: str) -> None:
    assert hear(speech, waiting).kind == kind


def test_questions_name_their_slots() -> None:
    assert hear("For how many people?", True).asked == ("people",)
    assert hear("For how many nights?", True).asked == ("stay",)
    assert set(hear("What day and what time would you like?", True).asked) >= {"day", "time"}


def test_times_contradict_only_on_the_wrong_side() -> None:
    wanted = {"leaveAt": "09:45", "day": "monday"}
    assert contradictions("TR1 leaves at 09:44 and arrives at 10:00.", wanted) == ("leaveAt",)
    assert contradictions("TR1 leaves at 09:45 and arrives at 10:00.", wanted) == ()


@dataclass
class Model:
    """A policy that answers from a list and keeps what it was asked."""

    answers: list[str]
    digest: str = "model"
    asked: list[Request] = field(default_factory=list)

    async def complete(self, request: Request) -> Completion:
        self.asked.append(request)
        return Completion(self.answers.pop(0), (), None, "stop", 0, 0, 0, None)

    async def close(self) -> None:
        self.answers.clear()


def test_the_goal_user_flips_the_roles_and_ends_at_the_mark() -> None:
    model = Model(["I want food.", "Thanks! END_CONVERSATION"])
    user = made("goal", model)
    opening = asyncio.run(user.reply(()))
    assert (opening.text, opening.done) == ("I want food.", False)
    conversation = (Message("user", "I want food."), Message("assistant", "Which?"))
    assert asyncio.run(user.reply(conversation)).done
    roles = [m.role for m in model.asked[1].messages]
    assert roles == ["system", "user", "assistant", "user"]
    assert "Book it for 3 people" in model.asked[1].messages[0].content


def test_the_guide_user_is_coached_with_the_real_dialogue_each_turn() -> None:
    model = Model(["Ask for a table.", "A table, please."])
    user = made("guide", model)
    assert asyncio.run(user.reply(())).text == "A table, please."
    assert "Customer: In town." in model.asked[0].messages[0].content
    assert "Ask for a table." in model.asked[1].messages[0].content


def test_an_empty_answer_of_a_users_model_is_a_typed_failure() -> None:
    user = made("goal", Model([" "]))
    with pytest.raises(RolloutError) as failure:
        asyncio.run(user.reply(()))
    assert failure.value.kind == "user"


def test_a_users_model_that_cannot_answer_is_the_users_failure_and_says_which() -> None:
    class Refusing(Model):
        async def complete(self, request: Request) -> Completion:
            raise RolloutError("timeout", "No answer in time.")

    user = made("goal", Refusing([]))
    with pytest.raises(RolloutError, match=r"The user's model \(timeout\): No answer in time") as failure:
        asyncio.run(user.reply(()))
    assert failure.value.kind == "user"


def test_the_script_user_replays_the_real_users_turns() -> None:
    user = made("script")
    first = asyncio.run(user.reply(()))
    assert (first.text, first.done) == ("A table, please.", False)
    last = asyncio.run(user.reply((Message("user", first.text), Message("assistant", "?"))))
    assert (last.text, last.done) == ("In town.", True)


def test_what_a_users_model_says_can_be_stored() -> None:
    user = made("goal", Model(["I want\ud800 food.\x00"]))
    assert asyncio.run(user.reply(())).text == "I want? food.�"


ODD = replace(DIALOGUE, log=({}, *DIALOGUE.log[1:3], {"text": 7}, {"text": None}, *DIALOGUE.log[3:]))


def test_odd_turns_of_a_dialogue_are_left_out_by_the_script_and_the_guide() -> None:
    script = made("script", dialogue=ODD)
    reply = asyncio.run(script.reply(()))
    assert (reply.text, reply.done) == ("In town.", True)
    model = Model(["Ask for a table.", "A table, please."])
    asyncio.run(made("guide", model, ODD).reply(()))
    guide = model.asked[0].messages[0].content
    assert "Agent: Where?\nCustomer: In town.\nAgent: Done." in guide


def test_a_script_without_any_words_is_the_users_failure() -> None:
    with pytest.raises(RolloutError, match="The task holds no words to repeat") as failure:
        made("script", dialogue=replace(DIALOGUE, log=({}, {"text": "Hi."})))
    assert failure.value.kind == "user"


def test_a_user_without_its_model_is_refused_with_what_to_set() -> None:
    with pytest.raises(UserError, match=r"set user\.endpoint and user\.model"):
        made("goal")


def test_a_users_name_tells_its_kind_its_model_and_its_words() -> None:
    of = {"endpoint": "http://127.0.0.1:9/v1"}
    kinds = [
        {"kind": "agenda"}, {"kind": "script"}, *({"kind": "goal", "model": model, **of} for model in "ab"),
    ]  # fmt: skip
    environment = environment_of(corpus_of(DIALOGUE))
    names = [user_name(load_settings("quickstart", {"user": kind}), environment) for kind in kinds]
    assert names[:2] == ["agenda v1", "script v1"]
    assert names[2].startswith("goal a ") and names[2].replace("goal a", "goal b") == names[3]
