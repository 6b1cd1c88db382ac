"""What an agenda user means to say, fixed by goal and seed before the first word."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from random import Random
from typing import Literal

from josh_pipeline.core.ids import derived_seed
from josh_pipeline.environments.toolwoz.goal import ID_KEY, DomainTask, Goal

HELD_SHARE = 0.35
"""Share of the bookings of which one detail is held back until the agent asks."""

SHORT_OPENING, LONG_OPENING = 0.15, 0.25
"""Shares of the conversations that open with one and with three slots; the others with two."""

Act = Literal[
    "open",
    "inform",
    "change",
    "correct",
    "insist",
    "book",
    "detail",
    "rebook",
    "insist_booking",
    "bye",
    "give_up",
]


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
class Progress:
    """Where the user stands, its latest message included.

    Attributes:
        domain: position in ``Plan.domains``; its length when all is done.
        told: constraints of this domain as they hold now.
        failing, failing_booking: what is asked for is meant to fail.
        booking: booking details told.
        waiting: a booking was asked for and not yet confirmed.
        stuck: how often the user was stuck.
        act, text, done: the latest message.
    """

    domain: int = 0
    told: dict[str, str] = field(default_factory=dict)
    failing: bool = False
    failing_booking: bool = False
    booking: dict[str, str] = field(default_factory=dict)
    waiting: bool = False
    stuck: int = 0
    act: Act = "open"
    text: str = ""
    done: bool = False


def plan_goal(goal: Goal, seed: int, max_turns: int) -> Plan:
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
    plain = tuple(_plain(task) for task in tasks)
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
    ends = ("departure", "destination")
    return sorted(slots, key=lambda slot: (slot not in failing, slot not in ends))


def _plain(task: DomainPlan) -> DomainPlan:
    return DomainPlan(
        domain=task.domain,
        wishes=task.wishes,
        first_wishes=task.wishes,
        changes={},
        booking=task.booking,
        first_booking=task.booking,
        booking_changes={},
        held=None,
    )
