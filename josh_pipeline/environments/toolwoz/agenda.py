"""The agenda user: no model, a pure function of (goal, seed, visible conversation).

What it means to say is planned before the first word. Where it stands is recomputed from the conversation
with every reply, so forked branches need no user state. It sees what the agent spoke and knows its own goal;
calls, results and rewards it never sees. It does not ask for the facts that a goal requests: no reward covers
them, and each costs the agent a turn.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import ceil
from random import Random

from josh_pipeline.core.content import derived_seed
from josh_pipeline.core.messages import Conversation
from josh_pipeline.core.user import UserReply
from josh_pipeline.environments.toolwoz import wording
from josh_pipeline.environments.toolwoz.goal import ID_KEY, DomainTask, Goal
from josh_pipeline.environments.toolwoz.hearing import Heard, contradictions, hear

USER_VERSION = 1
"""Raised when the agenda user's words or choices change: scores before and after do not compare."""

PATIENCE = 3
"""The user gives up when it is stuck this many times."""

GAVE_UP = "Never mind, goodbye."
"""What it then says."""

HELD_SHARE = 0.35
"""Share of the bookings of which one detail is held back until the agent asks."""

SHORT_OPENING, LONG_OPENING = 0.15, 0.25
"""Shares of the conversations that open with one and with three slots; the others with two."""
ENDS = frozenset({"departure", "destination"})
"""Slots of a journey that are told together."""


@dataclass(frozen=True)
class DomainPlan:
    """One domain's agenda.

    Attributes:
        domain: hotel, restaurant, attraction or train.
        wishes: constraints in the order in which they are told.
        first_wishes: what is tried first, where the goal wants a failure; else ``wishes``.
        changes: the wishes that replace what failed.
        booking: the booking's details; empty where nothing is booked.
        first_booking, booking_changes: the same for a booking that fails first.
        held: the detail that is held back until asked, if any.
    """

    domain: str
    wishes: dict[str, str]
    first_wishes: dict[str, str]
    changes: dict[str, str]
    booking: dict[str, str]
    first_booking: dict[str, str]
    booking_changes: dict[str, str]
    held: str | None

    def turns(self, opening: int, pace: int) -> int:
        """Return how many user messages an agent that understands everything needs."""
        told = max(0, ceil((len(self.wishes) - opening) / pace))
        booked = bool(self.booking) + bool(self.held) + bool(self.booking_changes)
        return 1 + told + bool(self.changes) + booked

    @property
    def plain(self) -> "DomainPlan":
        """The same without failures and held details."""
        return replace(
            self,
            first_wishes=self.wishes, changes={},
            first_booking=self.booking, booking_changes={}, held=None,
        )  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """A goal's agenda.

    Attributes:
        domains: in the order of the goal's tasks.
        opening_size, pace: slots told when a domain opens, and with each message after it.
    """

    domains: tuple[DomainPlan, ...]
    opening_size: int
    pace: int


@dataclass
class Standing:
    """Where the user stands, its latest message included.

    Attributes:
        domain: position in ``Plan.domains``; its length when all is done.
        told: constraints of this domain as they hold now.
        failing, failing_booking: what is asked for is meant to fail.
        booking: booking details told.
        waiting: a booking was asked for and not yet confirmed.
        stuck: how often the user was stuck.
        text, done: the latest message.
    """

    domain: int = 0
    told: dict[str, str] = field(default_factory=dict)
    failing: bool = False
    failing_booking: bool = False
    booking: dict[str, str] = field(default_factory=dict)
    waiting: bool = False
    stuck: int = 0
    text: str = ""
    done: bool = False


class AgendaUser:
    """Reveals a slot or two a turn, answers, corrects, asks for the booking, ends when done."""

    def __init__(self, goal: Goal, seed: int, max_turns: int) -> None:
        self._seed = derived_seed("agenda", goal.goal_id, seed)
        self._max_turns = max_turns
        self.plan: Plan = _plan_goal(goal, self._seed, max_turns)

    async def reply(self, conversation: Conversation) -> UserReply:
        """Answer the visible conversation so far; the empty one gives the opening message."""
        speeches = [m.content for m in conversation if m.role == "assistant"]
        now = Standing(done=True) if len(speeches) >= self._max_turns else self.standing(speeches)
        return UserReply(now.text, now.done)

    def standing(self, speeches: Iterable[str]) -> Standing:
        """Return where the user stands after its answer to the last of the agent's speeches."""
        now = Standing()
        self._open(now, self._rng(0))
        for turn, speech in enumerate(speeches, start=1):
            if now.done:
                break
            self._answer(now, speech, self._rng(turn))
        return now

    def _rng(self, turn: int) -> Random:
        return Random(derived_seed("turn", self._seed, turn))

    def _task(self, now: Standing) -> DomainPlan:
        return self.plan.domains[now.domain]

    def _open(self, now: Standing, rng: Random) -> None:
        task = self._task(now)
        now.told = _take(task.first_wishes, {}, self.plan.opening_size)
        now.booking, now.waiting = {}, False
        now.failing, now.failing_booking = bool(task.changes), bool(task.booking_changes)
        now.text = wording.opening(rng, task.domain, now.told, first=now.domain == 0)

    def _answer(self, now: Standing, speech: str, rng: Random) -> None:
        heard = hear(speech, now.waiting)
        if now.waiting:
            self._answer_booking(now, heard, rng)
        else:
            self._answer_search(now, heard, speech, rng)
        if now.stuck >= PATIENCE:
            now.done = True
            now.text = GAVE_UP

    def _answer_search(self, now: Standing, heard: Heard, speech: str, rng: Random) -> None:
        task = self._task(now)
        wishes = task.first_wishes if now.failing else task.wishes
        untold = {slot: value for slot, value in wishes.items() if slot not in now.told}
        changes_told = now.failing and task.changes.keys() <= now.told.keys()
        wrong = contradictions(speech, now.told) if heard.kind == "offer" else ()
        if changes_told and (heard.kind == "no_match" or (heard.kind == "offer" and not untold and not wrong)):
            now.told |= task.changes
            now.failing = False
            now.text = wording.changing(rng, task.changes)
        elif wrong:
            now.text = wording.demanding(rng, wording.OBJECTIONS, {slot: now.told[slot] for slot in wrong})
            now.stuck += 1
        elif untold:
            asked = {s: v for s, v in untold.items() if s in heard.asked and heard.kind == "question"}
            new = _take(untold, asked, self.plan.pace)
            now.told |= new
            now.text = wording.answering(new) if asked else wording.demanding(rng, wording.MORE_LEADS, new)
        elif heard.kind == "offer":
            self._accept(now, rng)
        else:
            now.text = wording.insisting(rng, task.domain, now.told)
            now.stuck += 1

    def _accept(self, now: Standing, rng: Random) -> None:
        task = self._task(now)
        if not task.booking:
            self._next_domain(now, rng)
            return
        details = task.first_booking if now.failing_booking else task.booking
        now.booking = {slot: value for slot, value in details.items() if slot != task.held}
        now.waiting = True
        now.text = wording.booking(rng, task.domain, now.booking, again=False)

    def _answer_booking(self, now: Standing, heard: Heard, rng: Random) -> None:
        task = self._task(now)
        missing = {slot: v for slot, v in task.booking.items() if slot not in now.booking}
        if heard.kind == "booked":
            self._next_domain(now, rng)
        elif missing and (heard.kind == "not_booked" or set(missing) & set(heard.asked)):
            details = task.first_booking if now.failing_booking else task.booking
            new = {slot: details[slot] for slot in missing}
            now.booking |= new
            now.text = wording.detailing(task.domain, new)
        elif now.failing_booking and heard.kind == "not_booked":
            now.booking |= task.booking_changes
            now.failing_booking = False
            now.text = wording.changing(rng, task.booking_changes)
        else:
            asked = {slot: v for slot, v in now.booking.items() if slot in heard.asked}
            again = wording.booking(rng, task.domain, now.booking, again=True) if not asked else ""
            now.text = again or wording.detailing(task.domain, asked)
            now.stuck += 1

    def _next_domain(self, now: Standing, rng: Random) -> None:
        now.domain += 1
        if now.domain < len(self.plan.domains):
            self._open(now, rng)
        else:
            now.done, now.waiting = True, False
            now.text = rng.choice(("Thank you, goodbye.", "That is all, thanks.", "Great, thanks. Bye."))


def _plan_goal(goal: Goal, seed: int, max_turns: int) -> Plan:
    """Plan a conversation that an agent which understands everything can finish in time.

    Slots are told a bit faster, and failures and held details left out, where ``max_turns`` user
    messages would not do otherwise.
    """
    rng = Random(derived_seed("plan", seed))
    draw = rng.random()
    opening = 1 if draw < SHORT_OPENING else 3 if draw > 1 - LONG_OPENING else 2
    calls = {call.tool: call.parameters for call in goal.calls}
    tasks = [_plan_domain(task, calls, rng) for task in goal.tasks]
    plans = [Plan(tuple(tasks), max(opening, pace), pace) for pace in (2, 3, 4)]
    plain = tuple(task.plain for task in tasks)
    plans += [Plan(plain, size, size) for size in (4, len(max((t.wishes for t in tasks), key=len)))]
    for plan in plans:
        if sum(task.turns(plan.opening_size, plan.pace) for task in plan.domains) < max_turns:
            return plan
    return plans[-1]


def _plan_domain(task: DomainTask, calls: Mapping[str, Mapping[str, str]], rng: Random) -> DomainPlan:
    """Plan what the goal's calls need said; a booking that nobody ever made is not asked for."""
    info = calls.get(f"search_{task.domain}", {})
    booking = {s: v for s, v in calls.get(f"book_{task.domain}", {}).items() if s != ID_KEY[task.domain]}
    failing = _different(task.fail_info, info)
    failing_booking = _different(task.fail_book, booking)
    slots = _ordered(info, failing, rng)
    wishes = {slot: info[slot] for slot in slots}
    free = [slot for slot in booking if slot not in failing_booking]
    held = rng.choice(free) if rng.random() < HELD_SHARE and free else None
    return DomainPlan(
        domain=task.domain,
        wishes=wishes,
        first_wishes=wishes | failing,
        changes={slot: wishes[slot] for slot in slots if slot in failing},
        booking=booking,
        first_booking=booking | failing_booking,
        booking_changes={slot: booking[slot] for slot in booking if slot in failing_booking},
        held=held,
    )


def _different(first: Mapping[str, str], then: Mapping[str, str]) -> dict[str, str]:
    """Return what is tried first where it differs from what is wanted in the end."""
    return {slot: value for slot, value in first.items() if slot in then and value != then[slot]}


def _ordered(info: Mapping[str, str], failing: Mapping[str, str], rng: Random) -> list[str]:
    """Order the slots: what will fail first, a journey's ends together, the rest as it falls."""
    slots = list(info)
    rng.shuffle(slots)
    return sorted(slots, key=lambda slot: (slot not in failing, slot not in ENDS))


def _take(untold: dict[str, str], asked: dict[str, str], size: int) -> dict[str, str]:
    """Choose what to tell next: what was asked, else the first ones; the two ends of a journey together."""
    chosen = dict(asked)
    for slot, value in untold.items():
        if len(chosen) < size or (slot in ENDS and ENDS & chosen.keys()):
            chosen[slot] = value
    return {slot: value for slot, value in untold.items() if slot in chosen}
