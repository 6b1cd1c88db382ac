"""What the users of the sample corpus want: one domain's share of a goal at a time.

The shares of slots, failing requests and bookings follow MultiWOZ 2.1's validation goals. Every task can
be solved: it is built from a row of the database, and what is to fail matches no row at all.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from josh_pipeline.environments.toolwoz.sample_town import (
    ABSENT_ATTRACTIONS,
    ABSENT_FOODS,
    AREAS,
    DAYS,
    FOODS,
    PRICE_RANGES,
    Row,
    clock,
    minutes,
    town_databases,
)

NAMED = 0.24
"""Share of goals that name a particular place."""
FAILING_INFO = 0.35
"""Share of the other goals that first ask for what the town does not have."""
FAILING_BOOK = 0.22
"""Share of bookings that are first refused."""


@dataclass(frozen=True)
class Task:
    """One domain's share of a goal, and the row that the dialogue settles on.

    Attributes:
        domain: hotel, restaurant, attraction, train or taxi.
        goal: the MultiWOZ record: info, fail_info, and book and fail_book, or reqt.
        target: the row that is booked or told about; for a taxi its description.
    """

    domain: str
    goal: dict[str, Any]
    target: Mapping[str, Any]

    @property
    def info(self) -> dict[str, str]:
        """What is wanted."""
        return dict(self.goal["info"])

    @property
    def first_info(self) -> dict[str, str]:
        """What is asked for first: the failing request if there is one."""
        return dict(self.goal["fail_info"] or self.goal["info"])


def matching(domain: str, info: Mapping[str, str]) -> list[Row]:
    """Return the town's rows that satisfy a request; times are bounds, inclusive."""

    def satisfies(row: Row) -> bool:
        for slot, value in info.items():
            if slot == "leaveAt":
                if minutes(row[slot]) < minutes(value):
                    return False
            elif slot == "arriveBy":
                if minutes(row[slot]) > minutes(value):
                    return False
            elif row[slot] != value:
                return False
        return True

    return [row for row in town_databases()[domain] if satisfies(row)]


def make_task(rng: Random, domain: str, booked: bool) -> Task:
    """Draw a task of a domain; ``booked`` adds a booking, otherwise details are requested."""
    return _MAKERS[domain](rng, booked)


def _pick(rng: Random, row: Row, slots: Iterable[str]) -> dict[str, str]:
    """Return a row's values of some slots, in any order."""
    chosen = list(slots)
    rng.shuffle(chosen)
    return {slot: row[slot] for slot in chosen}


def _requested(rng: Random, slots: Iterable[str], info: Mapping[str, str]) -> list[str]:
    free = [slot for slot in slots if slot not in info]
    return rng.sample(free, min(len(free), rng.choices((1, 2, 3), (40, 40, 20))[0]))


def _failing(
    rng: Random, domain: str, info: dict[str, str], choices: Mapping[str, Iterable[str]]
) -> dict[str, str]:
    """Return the request with one value changed so that no row matches; empty where there is none."""
    if "name" in info or rng.random() > FAILING_INFO:
        return {}
    slots = [slot for slot in choices if slot in info]
    rng.shuffle(slots)
    for slot in slots:
        values = [value for value in choices[slot] if value != info[slot]]
        rng.shuffle(values)
        for value in values:
            failing = info | {slot: value}
            if not matching(domain, failing):
                return failing
    return {}


def _booking(rng: Random, slot: str, wanted: str, refused: str) -> dict[str, Any]:
    """Return book and fail_book of a restaurant or hotel; ``slot`` is time or stay."""
    book: dict[str, Any] = {"people": str(rng.randint(1, 8)), "day": rng.choice(DAYS), "invalid": False}
    book[slot] = wanted
    if rng.random() > FAILING_BOOK:
        return {"book": book, "fail_book": {}}
    return {"book": book | {"pre_invalid": True}, "fail_book": {slot: refused}}


def _restaurant(rng: Random, booked: bool) -> Task:
    row = rng.choice(town_databases()["restaurant"])
    slots: tuple[tuple[str, ...], ...] = (
        ("food", "pricerange", "area"),
        ("pricerange", "area"),
        ("food", "pricerange"),
        ("food", "area"),
    )
    weights = (43, 21, 18, 18)
    info = {"name": row["name"]} if rng.random() < NAMED else _pick(rng, row, rng.choices(slots, weights)[0])
    foods = ABSENT_FOODS if rng.random() < 0.5 else tuple(FOODS)
    goal: dict[str, Any] = {
        "info": info,
        "fail_info": _failing(rng, "restaurant", info, {"food": foods}),
    }
    if booked:
        time = 15 * rng.randint(44, 83)  # 11:00 to 20:45
        goal |= _booking(rng, "time", clock(time), clock(time + 60))
    else:
        slots_known = ("phone", "address", "postcode", "food", "pricerange", "area")
        goal["reqt"] = _requested(rng, slots_known, info)
    return Task("restaurant", goal, rng.choice(matching("restaurant", info)))


def _hotel(rng: Random, booked: bool) -> Task:
    row = rng.choice(town_databases()["hotel"])
    if rng.random() < NAMED:
        info = {"name": row["name"]}
    else:
        # "parking: no" would mean "need not have parking" in a goal: only what is there is asked for
        slots = ["area", "pricerange", "stars", "type"]
        slots += [slot for slot in ("internet", "parking") if row[slot] == "yes"]
        info = _pick(rng, row, rng.sample(slots, rng.choices((2, 3, 4), (20, 40, 40))[0]))
    choices = {
        "pricerange": PRICE_RANGES,
        "area": AREAS,
        "stars": ("2", "3", "4"),
        "type": ("hotel", "guesthouse"),
    }
    goal: dict[str, Any] = {"info": info, "fail_info": _failing(rng, "hotel", info, choices)}
    if booked:
        stay = rng.randint(1, 4)
        goal |= _booking(rng, "stay", str(stay), str(stay + rng.randint(1, 2)))
    else:
        slots_known = (
            "phone",
            "address",
            "postcode",
            "internet",
            "parking",
            "stars",
            "type",
            "area",
            "pricerange",
        )
        goal["reqt"] = _requested(rng, slots_known, info)
    return Task("hotel", goal, rng.choice(matching("hotel", info)))


def _attraction(rng: Random, booked: bool) -> Task:
    assert not booked, "attractions take no bookings"
    row = rng.choice(town_databases()["attraction"])
    slots: tuple[tuple[str, ...], ...] = (("type", "area"), ("area",), ("type",))
    info = (
        {"name": row["name"]}
        if rng.random() < NAMED
        else _pick(rng, row, rng.choices(slots, (52, 24, 24))[0])
    )
    kinds = sorted({r["type"] for r in town_databases()["attraction"]} | set(ABSENT_ATTRACTIONS))
    goal = {
        "info": info,
        "fail_info": _failing(rng, "attraction", info, {"type": kinds}),
        "reqt": _requested(rng, ("phone", "address", "postcode", "entrance fee", "type", "area"), info),
    }
    return Task("attraction", goal, rng.choice(matching("attraction", info)))


def _train(rng: Random, booked: bool) -> Task:
    row = rng.choice(town_databases()["train"])
    by_arrival = rng.random() < 0.58
    if by_arrival:
        bound = 15 * (minutes(row["arriveBy"]) // 15 + 1 + rng.randint(0, 3))
        limit = {"arriveBy": clock(min(bound, 23 * 60 + 45))}
        if minutes(limit["arriveBy"]) < minutes(row["arriveBy"]):  # past the last quarter of the day
            by_arrival = False
    if not by_arrival:
        limit = {"leaveAt": clock(15 * max(0, minutes(row["leaveAt"]) // 15 - rng.randint(0, 3)))}
    info = _pick(rng, row | limit, ("departure", "destination", "day", next(iter(limit))))
    goal: dict[str, Any] = {"info": info, "fail_info": {}}
    if booked:
        goal |= {"book": {"people": str(rng.randint(1, 8)), "invalid": False}, "fail_book": {}}
    else:
        goal["reqt"] = _requested(rng, ("duration", "price", "trainID", "leaveAt", "arriveBy"), info)
    found = matching("train", info)
    return Task("train", goal, found[-1] if by_arrival else found[0])


def _taxi(rng: Random, booked: bool) -> Task:
    places = rng.sample([r["name"] for d in ("hotel", "restaurant") for r in town_databases()[d]], 2)
    info = {"leaveAt": clock(15 * rng.randint(20, 95)), "departure": places[0], "destination": places[1]}
    car = {
        "type": f"{rng.choice(('black', 'white', 'red', 'blue'))} {rng.choice(('saloon', 'estate', 'van'))}",
        "phone": f"07700900{rng.randint(0, 999):03d}",
    }
    return Task("taxi", {"info": info, "fail_info": {}, "reqt": ["car type", "phone"]}, car)


_MAKERS: dict[str, Callable[[Random, bool], Task]] = {
    "restaurant": _restaurant,
    "hotel": _hotel,
    "attraction": _attraction,
    "train": _train,
    "taxi": _taxi,
}
