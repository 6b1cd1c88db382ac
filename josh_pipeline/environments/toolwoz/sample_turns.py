"""The turns of a sample dialogue: what user and system said, and the system's belief state."""

from collections.abc import Mapping
from random import Random
from typing import Any

from josh_pipeline.environments.toolwoz.sample_goals import Task, matching
from josh_pipeline.environments.toolwoz.sample_messages import enumerated, requested_names

_SEMI = {
    "taxi": ("leaveAt", "destination", "departure", "arriveBy"),
    "police": (),
    "restaurant": ("food", "pricerange", "name", "area"),
    "hospital": ("department",),
    "hotel": ("name", "area", "parking", "pricerange", "stars", "internet", "type"),
    "attraction": ("type", "name", "area"),
    "train": ("leaveAt", "destination", "day", "arriveBy", "departure"),
}
_BOOK = {"restaurant": ("time", "day", "people"), "hotel": ("stay", "day", "people"), "train": ("people",)}

_SAID = {
    "area": "in the {}",
    "food": "serving {} food",
    "pricerange": "in the {} price range",
    "stars": "with {} stars",
    "internet": "with free wifi",
    "parking": "with free parking",
    "departure": "from {}",
    "destination": "to {}",
    "day": "on {}",
    "leaveAt": "leaving after {}",
    "arriveBy": "arriving by {}",
    "name": "called {}",
    "type": "of the type {}",
}
_THING = {
    "restaurant": "restaurant",
    "hotel": "place to stay",
    "attraction": "place to go to",
    "train": "train",
}
_REFERENCE = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"


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
            book |= {slot: self._book.get(domain, {}).get(slot, "") for slot in _BOOK.get(domain, ())}
            state[domain] = {"book": book, "semi": {slot: (semi or {}).get(slot, blank) for slot in slots}}
        return state

    def play(self, task: Task, also: bool) -> None:
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
            say(
                ("You are welcome. Goodbye.", "Enjoy your stay in town!", "Thank you for using our service.")
            ),
        )

    def _search(self, task: Task, also: bool) -> None:
        say, domain, asked = self._rng.choice, task.domain, task.first_info
        wanted = f"a {_THING[domain]} {_constraints(asked)}"
        starts = (
            ("I am also looking for {}.", "I also need {}.", "Then I want {}.")
            if also
            else ("I am looking for {}.", "Can you help me find {}?", "Hello, I need {}.")
        )
        self._semi[domain] = dict(asked)
        request = say(starts).format(wanted)
        if task.goal["fail_info"]:
            self._exchange(request, f"I am sorry, there is no {_THING[domain]} like that. Anything else?")
            changed = {slot: value for slot, value in task.info.items() if asked[slot] != value}
            self._semi[domain] = task.info
            request = f"How about one {_constraints(changed)}?"
        count = len(matching(domain, task.info))
        found = "There is one" if count == 1 else f"I found {count}"
        self._exchange(request, f"{found}. {_offer(task)}")

    def _details(self, task: Task) -> None:
        names, slots = requested_names(task), task.goal["reqt"]
        told = [f"the {name} is {task.target[slot]}" for name, slot in zip(names, slots, strict=True)]
        self._exchange(
            f"Please give me the {enumerated(names)}.",
            f"Certainly: {enumerated(told)}. Is there anything else?",
        )

    def _booking(self, task: Task) -> None:
        domain, book = task.domain, {k: v for k, v in task.goal["book"].items() if isinstance(v, str)}
        refused: dict[str, str] = task.goal["fail_book"]
        request = f"Please book it {_arrangement(book | refused)}."
        if refused:
            self._book[domain] = book | refused
            self._exchange(request, "The booking was unsuccessful. Would you like to change it?")
            request = f"How about {_arrangement({slot: book[slot] for slot in refused})}?"
        self._book[domain] = book
        key = "trainID" if domain == "train" else "name"
        reference = "".join(self._rng.choices(_REFERENCE, k=8))
        self._booked[domain] = {key: task.target[key], "reference": reference}
        if domain != "train":
            self._semi[domain]["name"] = task.target["name"]
        self._exchange(
            request,
            f"I booked {task.target[key]} for you. The reference number is {reference}. Anything else?",
        )

    def _taxi(self, task: Task) -> None:
        info = task.info
        self._semi["taxi"] = info
        self._booked["taxi"] = dict(task.target)
        self._exchange(
            f"I need a taxi from {info['departure']} to {info['destination']} after {info['leaveAt']}.",
            f"A {task.target['type']} will come for you. Its contact number is {task.target['phone']}.",
        )


def _constraints(info: Mapping[str, str]) -> str:
    return " ".join(_SAID[slot].format(value) for slot, value in info.items())


def _arrangement(book: Mapping[str, str]) -> str:
    said = {"people": "for {} people", "day": "on {}", "time": "at {}", "stay": "for {} nights"}
    return " ".join(said[slot].format(value) for slot, value in book.items())


def _offer(task: Task) -> str:
    row = task.target
    if task.domain == "train":
        return f"{row['trainID']} leaves at {row['leaveAt']} and arrives at {row['arriveBy']}."
    kind = {"restaurant": "food", "hotel": "type", "attraction": "type"}[task.domain]
    return f"I recommend {row['name']} ({row[kind]}) in the {row['area']}."
