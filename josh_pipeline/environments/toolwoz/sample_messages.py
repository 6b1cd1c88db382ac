"""The instructions of a sample goal, in MultiWOZ's words and markup."""

from collections.abc import Mapping, Sequence
from random import Random

from josh_pipeline.environments.toolwoz.sample_goals import Task
from josh_pipeline.environments.toolwoz.sample_town import TOWN

OPENINGS = (
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
_INSTEAD = {
    "area": ("is in the {}", "{}"),
    "food": ("serves {} food", "{}"),
    "pricerange": ("is in the {} price range", "{}"),
    "type": ("is in {}", "the type of {}"),
    "stars": ("has {}", "a star of {}"),
}
REQUESTED = {
    "phone": "phone number",
    "address": "address",
    "postcode": "postcode",
    "area": "area",
    "food": "food type",
    "pricerange": "price range",
    "entrance fee": "entrance fee",
    "stars": "star of the hotel",
    "internet": "whether they have internet",
    "parking": "whether they have free parking",
    "duration": "travel time",
    "price": "price",
    "trainID": "train ID",
    "leaveAt": "departure time",
    "arriveBy": "arrival time",
    "car type": "car type",
    "type": "{} type",
}
"""Slot to what it is called; ``{}`` is the domain."""


def marked(text: str) -> str:
    """Return a value in MultiWOZ's markup."""
    return f"<span class='emphasis'>{text}</span>"


def enumerated(words: Sequence[str]) -> str:
    """Return ``a``, ``a and b`` or ``a, b, and c``."""
    if len(words) < 3:
        return " and ".join(words)
    return f"{', '.join(words[:-1])}, and {words[-1]}"


def goal_message(rng: Random, tasks: Sequence[Task]) -> list[str]:
    """Return the instructions that the user of a dialogue is given, one sentence or group an element."""
    several = len(tasks) > 1
    message = [rng.choice(OPENINGS).format(town=TOWN.capitalize())] if several else []
    for position, task in enumerate(tasks):
        message += _taxi(task, several) if task.domain == "taxi" else _task(rng, task, also=position > 0)
    return message


def _task(rng: Random, task: Task, also: bool) -> list[str]:
    noun, start = task.domain, "You are also looking for" if also else "You are looking for"
    asked = task.first_info
    if "name" in asked:
        lines = [f"{start} a {marked(f'particular {noun}')}. Its name is called {marked(asked['name'])}"]
    else:
        frame, words = _WANTED[noun]
        phrases = [_phrase(*_CONSTRAINTS[slot], value) for slot, value in asked.items()]
        pairs = [" and ".join(phrases[i : i + 2]) for i in range(0, len(phrases), 2)]
        lines = [f"The {noun} {pair}" for pair in pairs]
        lines[0] = f"{start} {frame.format(marked(rng.choice(words)))}. {lines[0]}"
    if task.goal["fail_info"]:
        slot = next(slot for slot, value in task.info.items() if asked[slot] != value)
        instead = _phrase(*_INSTEAD[slot], task.info[slot])
        lines.append(f"If there is no such {noun}, how about one that {instead}")
    return lines + (_booking(task) if "book" in task.goal else _details(task))


def _phrase(frame: str, emphasis: str, value: str) -> str:
    return frame.format(marked(emphasis.format(value)))


def requested_names(task: Task) -> list[str]:
    """Return what the requested slots of a task are called."""
    return [REQUESTED[slot].format(task.domain) for slot in task.goal["reqt"]]


def _details(task: Task) -> list[str]:
    return [f"Make sure you get {enumerated([marked(name) for name in requested_names(task)])}"]


def _booking(task: Task) -> list[str]:
    book: Mapping[str, str] = task.goal["book"]
    refused: Mapping[str, str] = task.goal["fail_book"]
    people = marked(f"{book['people']} people")
    lines = {
        "restaurant": lambda: (
            f"Once you find the {marked('restaurant')} you want to book a table for {people} at "
            f"{marked(refused.get('time', book['time']))} on {marked(book['day'])}"
        ),
        "hotel": lambda: (
            f"Once you find the {marked('hotel')} you want to book it for {people} and "
            f"{marked(refused.get('stay', book['stay']) + ' nights')} starting from {marked(book['day'])}"
        ),
        "train": lambda: f"Once you find the train you want to make a booking for {people}",
    }
    message = [lines[task.domain]()]
    if refused:
        instead = book["time"] if task.domain == "restaurant" else f"{book['stay']} nights"
        message.append(f"If the booking fails how about {marked(instead)}")
    return [*message, f"Make sure you get the {marked('reference number')}"]


def _taxi(task: Task, also: bool) -> list[str]:
    info, taxi = task.info, marked("taxi")
    wanted = marked("contact number"), marked("car type")
    if also:
        lines = [
            f"You also want to book a {taxi} to commute between the two places",
            f"You want to leave the first place by {marked(info['leaveAt'])}",
        ]
    else:
        leave = _phrase(*_CONSTRAINTS["leaveAt"], info["leaveAt"])
        lines = [
            f"You want to book a {taxi}. The taxi {leave} and should depart from {marked(info['departure'])}",
            f"The taxi should go to {marked(info['destination'])}",
        ]
    return [*lines, f"Make sure you get {enumerated(wanted)}"]
