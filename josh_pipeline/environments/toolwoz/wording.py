"""Words for slots and values: of the agenda user, the scripted agent and the sample corpus.

One table says every slot; the user has several templates an act. Every value stands verbatim in the text, but
for ``yes`` and ``no``, which are said as "with free parking" or "with no parking".
"""

from collections.abc import Mapping, Sequence
from random import Random

LEADS = ("I'm looking for", "I need", "Can you find me", "Please find me", "I would like")
MORE_LEADS = ("It should", "It must", "Also, it should", "I'd like it to", "And it should")
OBJECTIONS = ("No, it should", "That is not right, it should", "No, I asked for it to")
NOUN: Mapping[str, str] = {
    "restaurant": "restaurant",
    "hotel": "place to stay",
    "attraction": "attraction",
    "train": "train",
}
_COUNTABLE = {
    "hotel", "guesthouse", "museum", "college", "park", "theatre", "cinema", "nightclub",
    "swimmingpool", "concerthall",
}  # fmt: skip

_SLOTS: Mapping[str, tuple[str, str, str]] = {
    "area": ("in the {}", "be in the {}", "the {}"),
    "pricerange": ("in the {} price range", "be {}", "something {}"),
    "food": ("serving {} food", "serve {} food", "{} food"),
    "name": ("called {}", "be called {}", "the one called {}"),
    "stars": ("with {} stars", "have {} stars", "{} stars"),
    "type": ("of the type {}", "be of the type {}", "something of the type {}"),
    "departure": ("from {}", "leave from {}", "from {}"),
    "destination": ("to {}", "go to {}", "to {}"),
    "day": ("on {}", "be on {}", "on {}"),
    "leaveAt": ("leaving after {}", "leave after {}", "leaving after {}"),
    "arriveBy": ("arriving by {}", "arrive by {}", "arriving by {}"),
    "parking": ("with {} parking", "have {} parking", "{} parking"),
    "internet": ("with {} internet", "have {} internet", "{} internet"),
    "time": ("at {}", "be at {}", "at {}"),
    "stay": ("for {}", "be for {}", "{}"),
    "people": ("for {}", "be for {}", "for {}"),
}
"""Slot to how it is said after a noun, after "it should", and as a new value: "how about ... instead"."""
REFERENCE_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"
_COUNTED = {"stay": ("night", "nights"), "people": ("person", "people")}


def with_article(noun: str) -> str:
    """Put "a" or "an" before a noun."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def listed(parts: list[str]) -> str:
    """Join with commas and a last "and"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _shown(slot: str, value: str) -> str:
    """Return a value as it stands in a sentence, e.g. ``3 nights``."""
    if slot in ("parking", "internet"):
        return "free" if value == "yes" else value
    if slot in _COUNTED:
        one, many = _COUNTED[slot]
        return f"{value} {one if value == '1' else many}"
    return value


def attribute(slot: str, value: str) -> str:
    """Say a constraint after a noun, e.g. ``in the centre``."""
    return _SLOTS[slot][0].format(_shown(slot, value))


def demand(slot: str, value: str) -> str:
    """Say a constraint after "it should", e.g. ``be in the centre``."""
    if slot == "type" and value in _COUNTABLE:
        return f"be {with_article(value)}"
    return _SLOTS[slot][1].format(_shown(slot, value))


def instead(slot: str, value: str) -> str:
    """Name a constraint's new value, e.g. ``the north``."""
    if slot == "type" and value in _COUNTABLE:
        return with_article(value)
    return _SLOTS[slot][2].format(_shown(slot, value))


def noun_phrase(domain: str, values: Mapping[str, str]) -> str:
    """Name what is wanted with its constraints, e.g. ``a cheap restaurant in the centre``."""
    rest = dict(values)
    noun = NOUN[domain]
    if rest.get("type") in _COUNTABLE:
        noun = rest.pop("type")
    if "pricerange" in rest and domain == "restaurant":
        noun = f"{rest.pop('pricerange')} {noun}"
    order = ("type", "name", "departure", "destination", "day")
    slots = sorted(rest, key=lambda slot: order.index(slot) if slot in order else len(order))
    return " ".join([with_article(noun), *(attribute(slot, rest[slot]) for slot in slots)])


def departing(train: Mapping[str, str]) -> str:
    """Offer a train with what its passenger has to know."""
    return f"{train['trainID']} leaves at {train['leaveAt']} and arrives at {train['arriveBy']}."


def booking_detail(domain: str, slot: str, value: str) -> str:
    """Say a detail of a booking, e.g. ``for 3 people``."""
    starting = "starting " if (domain, slot) == ("hotel", "day") else ""
    return starting + attribute(slot, value)


def opening(rng: Random, domain: str, values: Mapping[str, str], first: bool) -> str:
    """Open a domain."""
    lead = rng.choice(LEADS)
    if not first:
        lead = rng.choice(("Thanks. I also need", "Great. I'm also looking for", "Thank you. I also want"))
    return f"{lead} {noun_phrase(domain, values)}{'?' if lead.startswith('Can') else '.'}"


def demanding(rng: Random, leads: Sequence[str], values: Mapping[str, str]) -> str:
    """Add constraints, or object to an offer that contradicts them."""
    return f"{rng.choice(leads)} {listed([demand(s, v) for s, v in values.items()])}."


def changing(rng: Random, values: Mapping[str, str]) -> str:
    """Replace constraints that cannot be met."""
    new = listed([instead(s, v) for s, v in values.items()])
    return rng.choice(("How about {} instead?", "Then {} instead, please.", "What about {} instead?")).format(new)


def answering(values: Mapping[str, str]) -> str:
    """Answer a question about constraints."""
    return _please(listed([instead(s, v) for s, v in values.items()]))


def insisting(rng: Random, domain: str, values: Mapping[str, str]) -> str:
    """Say all constraints again."""
    lead = rng.choice(("Please look again. I want", "Are you sure? I want", "Could you check again? I want"))
    return f"{lead} {noun_phrase(domain, values)}."


def booking(rng: Random, domain: str, values: Mapping[str, str], again: bool) -> str:
    """Ask for the booking, or for it ``again`` where it was not confirmed."""
    leads = ("Please book it", "Great, book it", "That works, please book it", "Yes, I'd like to book it")
    lead = rng.choice(("I still need it, please book it", "Please do book it") if again else leads)
    slots = list(values)
    rng.shuffle(slots)
    return " ".join([lead, *(booking_detail(domain, s, values[s]) for s in slots)]) + "."


def detailing(domain: str, values: Mapping[str, str]) -> str:
    """Give booking details that were asked for."""
    return _please(" ".join(booking_detail(domain, s, v) for s, v in values.items()))


def _please(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}, please."
