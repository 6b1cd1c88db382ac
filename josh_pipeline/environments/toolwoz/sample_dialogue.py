"""A dialogue of the sample corpus: its instructions, in MultiWOZ's words and markup, and its turns."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from josh_pipeline.environments.toolwoz.goal import ID_KEY
from josh_pipeline.environments.toolwoz.sample_town import TOWN
from josh_pipeline.environments.toolwoz.tools import book_parameters, search_parameters
from josh_pipeline.environments.toolwoz.wording import NOUN, REFERENCE_LETTERS, attribute, departing


@dataclass(frozen=True)
class Errand:
    """One domain's share of a goal, and the row that the dialogue settles on.

    Attributes:
        domain: hotel, restaurant, attraction, train or taxi.
        goal: the MultiWOZ record: info, fail_info, and book and fail_book, or reqt.
        target: the row that is booked or told about; for a taxi its description.
        matches: how many rows satisfy what is wanted.
    """

    domain: str
    goal: dict[str, Any]
    target: Mapping[str, Any]
    matches: int = 1

    @property
    def info(self) -> dict[str, str]:
        """What is wanted."""
        return dict(self.goal["info"])

    @property
    def first_info(self) -> dict[str, str]:
        """What is asked for first: the failing request if there is one."""
        return dict(self.goal["fail_info"] or self.goal["info"])

    @property
    def changes(self) -> dict[str, str]:
        """What is asked for instead of the failing request."""
        asked = self.first_info
        return {slot: value for slot, value in self.info.items() if asked[slot] != value}

    @property
    def requested_names(self) -> list[str]:
        """What the requested slots are called."""
        return [_REQUESTED.get(slot, slot).format(self.domain) for slot in self.goal["reqt"]]


_OPENINGS = (
    "You are planning your trip in {town}",
    "You are looking for information in {town}",
    "You are traveling to {town} and looking forward to try local restaurants",
    "You are traveling to {town} and excited about seeing local tourist attractions",
)
_WANTED = {
    "restaurant": ("a {}", ("place to dine", "restaurant")),
    "hotel": ("a {}", ("place to stay",)),
    "attraction": ("{} in town", ("places to go",)),
    "train": ("a {}", ("train",)),
}
_CONSTRAINTS = {
    "area": ("should be in the {}", "{}"),
    "food": ("should serve {} food", "{}"),
    "pricerange": ("should be in the {} price range", "{}"),
    "type": ("should be in the type of {}", "{}"),
    "stars": ("should have {}", "a star of {}"),
    "internet": ("should {}", "include free wifi"),
    "parking": ("should {}", "include free parking"),
    "departure": ("should depart from {}", "{}"),
    "destination": ("should go to {}", "{}"),
    "day": ("should leave on {}", "{}"),
    "leaveAt": ("should {}", "leave after {}"),
    "arriveBy": ("should {}", "arrive by {}"),
}
"""Slot to a sentence about a constraint and the part of it that is emphasised."""
_INSTEAD = {
    "area": ("is in the {}", "{}"),
    "food": ("serves {} food", "{}"),
    "pricerange": ("is in the {} price range", "{}"),
    "type": ("is in {}", "the type of {}"),
    "stars": ("has {}", "a star of {}"),
}
_REQUESTED = {
    "phone": "phone number",
    "food": "food type",
    "pricerange": "price range",
    "stars": "star of the hotel",
    "internet": "whether they have internet",
    "parking": "whether they have free parking",
    "duration": "travel time",
    "trainID": "train ID",
    "leaveAt": "departure time",
    "arriveBy": "arrival time",
    "type": "{} type",
}
"""Slot to what it is called, where that is not its own name; ``{}`` is the domain."""
_THING = {**NOUN, "attraction": "place to go to"}
_SEMI: Mapping[str, tuple[str, ...]] = {
    "taxi": ("leaveAt", "destination", "departure", "arriveBy"),
    "police": (),
    "restaurant": search_parameters("restaurant"),
    "hospital": ("department",),
    **{domain: search_parameters(domain) for domain in ("hotel", "attraction", "train")},
}
"""Domain to the slots of its belief state."""


def goal_message(rng: Random, tasks: Sequence[Errand]) -> list[str]:
    """Return the instructions that the user of a dialogue is given, one sentence or group an element."""
    several = len(tasks) > 1
    message = [rng.choice(_OPENINGS).format(town=TOWN.capitalize())] if several else []
    for position, task in enumerate(tasks):
        if task.domain == "taxi":
            message += _taxi(task, several)
        else:
            message += _wishes(rng, task, also=position > 0)
            message += _booking(task) if "book" in task.goal else _details(task)
    return message


def _marked(text: str) -> str:
    """Return a value in MultiWOZ's markup."""
    return f"<span class='emphasis'>{text}</span>"


def _phrase(frame: str, emphasis: str, value: str) -> str:
    return frame.format(_marked(emphasis.format(value)))


def _enumerated(words: Iterable[str]) -> str:
    """Return ``a``, ``a and b`` or ``a, b, and c``."""
    *others, last = words
    return f"{', '.join(others)}, and {last}" if len(others) > 1 else " and ".join([*others, last])


def _wishes(rng: Random, task: Errand, also: bool) -> list[str]:
    noun, start = task.domain, "You are also looking for" if also else "You are looking for"
    asked = task.first_info
    if "name" in asked:
        lines = [f"{start} a {_marked(f'particular {noun}')}. Its name is called {_marked(asked['name'])}"]
    else:
        frame, words = _WANTED[noun]
        phrases = [_phrase(*_CONSTRAINTS[slot], value) for slot, value in asked.items()]
        pairs = [" and ".join(phrases[i : i + 2]) for i in range(0, len(phrases), 2)]
        lines = [f"The {noun} {pair}" for pair in pairs]
        lines[0] = f"{start} {frame.format(_marked(rng.choice(words)))}. {lines[0]}"
    for slot, value in task.changes.items():
        lines.append(f"If there is no such {noun}, how about one that {_phrase(*_INSTEAD[slot], value)}")
    return lines


def _details(task: Errand) -> list[str]:
    return [f"Make sure you get {_enumerated(map(_marked, task.requested_names))}"]


def _booking(task: Errand) -> list[str]:
    book: Mapping[str, str] = task.goal["book"]
    first: Mapping[str, str] = book | task.goal["fail_book"]
    people = _marked(f"{book['people']} people")
    if task.domain == "train":
        message, instead = [f"Once you find the train you want to make a booking for {people}"], ""
    elif task.domain == "hotel":
        nights, instead = _marked(f"{first['stay']} nights"), f"{book['stay']} nights"
        message = [
            f"Once you find the {_marked('hotel')} you want to book it for {people} and {nights} "
            f"starting from {_marked(book['day'])}"
        ]
    else:
        instead = book["time"]
        message = [
            f"Once you find the {_marked('restaurant')} you want to book a table for {people} at "
            f"{_marked(first['time'])} on {_marked(book['day'])}"
        ]
    if task.goal["fail_book"]:
        message.append(f"If the booking fails how about {_marked(instead)}")
    return [*message, f"Make sure you get the {_marked('reference number')}"]


def _taxi(task: Errand, also: bool) -> list[str]:
    info, taxi = task.info, _marked("taxi")
    if also:
        lines = [
            f"You also want to book a {taxi} to commute between the two places",
            f"You want to leave the first place by {_marked(info['leaveAt'])}",
        ]
    else:
        leave = _phrase(*_CONSTRAINTS["leaveAt"], info["leaveAt"])
        start = _phrase(*_CONSTRAINTS["departure"], info["departure"])
        lines = [
            f"You want to book a {taxi}. The taxi {leave} and {start}",
            f"The taxi should go to {_marked(info['destination'])}",
        ]
    return [*lines, f"Make sure you get {_enumerated([_marked('contact number'), _marked('car type')])}"]


class Transcript:
    """Turns written so far, and the belief state that system turns carry.

    Attributes:
        log: user and system turns as MultiWOZ records, alternating, user first.
    """

    def __init__(self, rng: Random) -> None:
        self.log: list[dict[str, Any]] = []
        self._rng = rng
        self._semi: dict[str, dict[str, str]] = {}
        self._book: dict[str, dict[str, str]] = {}
        self._booked: dict[str, dict[str, str]] = {}

    def play(self, task: Errand, also: bool) -> None:
        """Write the exchanges of one task, from the first request to its details or its booking."""
        if task.domain == "taxi":
            self._taxi(task)
            return
        self._search(task, also)
        if "book" in task.goal:
            self._booking(task)
        else:
            self._details(task)

    def close(self) -> None:
        """Write the farewell."""
        say = self._rng.choice
        self._exchange(
            say(("That is all I need, thank you.", "No, thanks. Goodbye.", "Great, that is everything.")),
            say(("You are welcome. Goodbye.", "Enjoy your stay in town!", "Thank you for using our service.")),
        )

    def _exchange(self, user: str, system: str) -> None:
        self.log.append({"text": user, "metadata": {}})
        self.log.append({"text": system, "metadata": self._metadata()})

    def _metadata(self) -> dict[str, Any]:
        """Belief state: untouched domains are empty, untouched slots of others ``not mentioned``."""
        state: dict[str, Any] = {}
        for domain, slots in _SEMI.items():
            semi = self._semi.get(domain)
            blank = "" if semi is None else "not mentioned"
            book: dict[str, Any] = {"booked": [self._booked[domain]] if domain in self._booked else []}
            said = self._book.get(domain, {})
            book |= {slot: said.get(slot, "") for slot in (book_parameters(domain) if domain in NOUN else ())}
            state[domain] = {"book": book, "semi": {slot: (semi or {}).get(slot, blank) for slot in slots}}
        return state

    def _search(self, task: Errand, also: bool) -> None:
        domain, thing = task.domain, _THING[task.domain]
        starts = (
            ("I am also looking for {}.", "I also need {}.", "Then I want {}.")
            if also
            else ("I am looking for {}.", "Can you help me find {}?", "Hello, I need {}.")
        )
        self._semi[domain] = task.first_info
        request = self._rng.choice(starts).format(f"a {thing} {_constraints(task.first_info)}")
        if task.changes:
            self._exchange(request, f"I am sorry, there is no {thing} like that. Anything else?")
            self._semi[domain] = task.info
            request = f"How about one {_constraints(task.changes)}?"
        found = "There is one" if task.matches == 1 else f"I found {task.matches}"
        self._exchange(request, f"{found}. {_offer(task)}")

    def _details(self, task: Errand) -> None:
        names = task.requested_names
        told = [f"the {name} is {task.target[slot]}" for name, slot in zip(names, task.goal["reqt"], strict=True)]
        self._exchange(
            f"Please give me the {_enumerated(names)}.", f"Certainly: {_enumerated(told)}. Is there anything else?"
        )

    def _booking(self, task: Errand) -> None:
        domain, book = task.domain, {k: v for k, v in task.goal["book"].items() if isinstance(v, str)}
        refused: dict[str, str] = task.goal["fail_book"]
        request = f"Please book it {_arrangement(book | refused)}."
        if refused:
            self._book[domain] = book | refused
            self._exchange(request, "The booking was unsuccessful. Would you like to change it?")
            request = f"How about {_arrangement({slot: book[slot] for slot in refused})}?"
        self._book[domain] = book
        key = ID_KEY[domain]
        reference = "".join(self._rng.choices(REFERENCE_LETTERS, k=8))
        self._booked[domain] = {key: task.target[key], "reference": reference}
        if key == "name":
            self._semi[domain]["name"] = task.target["name"]
        self._exchange(
            request, f"I booked {task.target[key]} for you. The reference number is {reference}. Anything else?"
        )

    def _taxi(self, task: Errand) -> None:
        info = task.info
        self._semi["taxi"] = info
        self._booked["taxi"] = dict(task.target)
        self._exchange(
            f"I need a taxi from {info['departure']} to {info['destination']} after {info['leaveAt']}.",
            f"A {task.target['type']} will come for you. Its contact number is {task.target['phone']}.",
        )


def _constraints(info: Mapping[str, str]) -> str:
    said = {"internet": "with free wifi"}
    return " ".join(said.get(slot) or attribute(slot, value) for slot, value in info.items())


def _arrangement(book: Mapping[str, str]) -> str:
    said = {"people": "for {} people", "stay": "for {} nights"}
    return " ".join(said.get(slot, attribute(slot, "{}")).format(value) for slot, value in book.items())


def _offer(task: Errand) -> str:
    row = task.target
    if task.domain == "train":
        return departing(row)
    kind = {"restaurant": "food", "hotel": "type", "attraction": "type"}[task.domain]
    return f"I recommend {row['name']} ({row[kind]}) in the {row['area']}."
