"""The agenda user's words: several templates an act, every value verbatim in the text.

``yes`` and ``no`` are the exception: they are said as "with free parking" or "without parking".
"""

from collections.abc import Mapping
from random import Random

LEADS = ("I'm looking for", "I need", "Can you find me", "Please find me", "I would like")
MORE_LEADS = ("It should", "It must", "Also, it should", "I'd like it to", "And it should")
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
_YES_NO = {"parking": "parking", "internet": "internet"}


def with_article(noun: str) -> str:
    """Put "a" or "an" before a noun."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def listed(parts: list[str]) -> str:
    """Join with commas and a last "and"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _typed(value: str) -> str:
    return with_article(value) if value in _COUNTABLE else f"of the type {value}"


def attribute(slot: str, value: str) -> str:
    """Say a constraint after a noun, e.g. ``in the centre``."""
    if slot in _YES_NO:
        return f"with free {_YES_NO[slot]}" if value == "yes" else f"with {value} {_YES_NO[slot]}"
    return {
        "area": f"in the {value}",
        "pricerange": f"in the {value} price range",
        "food": f"serving {value} food",
        "name": f"called {value}",
        "stars": f"with {value} stars",
        "type": f"of the type {value}",
        "departure": f"from {value}",
        "destination": f"to {value}",
        "day": f"on {value}",
        "leaveAt": f"leaving after {value}",
        "arriveBy": f"arriving by {value}",
    }[slot]


def demand(slot: str, value: str) -> str:
    """Say a constraint after "it should", e.g. ``be in the centre``."""
    if slot in _YES_NO:
        return f"have free {_YES_NO[slot]}" if value == "yes" else f"have {value} {_YES_NO[slot]}"
    return {
        "area": f"be in the {value}",
        "pricerange": f"be {value}",
        "food": f"serve {value} food",
        "name": f"be called {value}",
        "stars": f"have {value} stars",
        "type": f"be {_typed(value)}",
        "departure": f"leave from {value}",
        "destination": f"go to {value}",
        "day": f"be on {value}",
        "leaveAt": f"leave after {value}",
        "arriveBy": f"arrive by {value}",
    }[slot]


def instead(slot: str, value: str) -> str:
    """Name a constraint's new value, e.g. ``the north``."""
    if slot in _YES_NO:
        return f"free {_YES_NO[slot]}" if value == "yes" else f"{value} {_YES_NO[slot]}"
    return {
        "area": f"the {value}",
        "pricerange": f"something {value}",
        "food": f"{value} food",
        "name": f"the one called {value}",
        "stars": f"{value} stars",
        "type": with_article(value) if value in _COUNTABLE else f"something of the type {value}",
        "departure": f"from {value}",
        "destination": f"to {value}",
        "day": f"on {value}",
        "leaveAt": f"leaving after {value}",
        "arriveBy": f"arriving by {value}",
        "time": f"at {value}",
        "stay": _counted(value, "night"),
        "people": f"for {_counted(value, 'person', 'people')}",
    }[slot]


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


def _counted(value: str, one: str, many: str | None = None) -> str:
    return f"{value} {one if value == '1' else many or one + 's'}"


def booking_detail(domain: str, slot: str, value: str) -> str:
    """Say a detail of a booking, e.g. ``for 3 people``."""
    return {
        "people": f"for {_counted(value, 'person', 'people')}",
        "stay": f"for {_counted(value, 'night')}",
        "day": f"{'starting ' if domain == 'hotel' else ''}on {value}",
        "time": f"at {value}",
    }[slot]


def opening(rng: Random, domain: str, values: Mapping[str, str], first: bool) -> str:
    """Open a domain."""
    lead = rng.choice(LEADS)
    if not first:
        lead = rng.choice(("Thanks. I also need", "Great. I'm also looking for", "Thank you. I also want"))
    mark = "?" if lead.startswith("Can") else "."
    return f"{lead} {noun_phrase(domain, values)}{mark}"


def informing(rng: Random, values: Mapping[str, str]) -> str:
    """Add constraints."""
    return f"{rng.choice(MORE_LEADS)} {listed([demand(s, v) for s, v in values.items()])}."


def changing(rng: Random, values: Mapping[str, str]) -> str:
    """Replace constraints that cannot be met."""
    new = listed([instead(s, v) for s, v in values.items()])
    return rng.choice(("How about {} instead?", "Then {} instead, please.", "What about {} instead?")).format(
        new
    )


def answering(values: Mapping[str, str]) -> str:
    """Answer a question about constraints."""
    text = listed([instead(s, v) for s, v in values.items()])
    return f"{text[0].upper()}{text[1:]}, please."


def correcting(rng: Random, values: Mapping[str, str]) -> str:
    """Object to an offer that contradicts constraints."""
    lead = rng.choice(("No, it should", "That is not right, it should", "No, I asked for it to"))
    return f"{lead} {listed([demand(s, v) for s, v in values.items()])}."


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
    text = " ".join(booking_detail(domain, s, v) for s, v in values.items())
    return f"{text[0].upper()}{text[1:]}, please."
