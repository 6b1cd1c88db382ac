"""What the agenda user makes of an agent's sentence: keywords, no model, no knowledge of calls."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["no_match", "booked", "not_booked", "question", "offer", "noise"]

_NEGATION = r"(?:no|not|none|n't|cannot|unable|unfortunately|sorry|nothing|never|fail\w*|unavailable)"
_NOT_BOOKED = re.compile(
    rf"{_NEGATION}\b.*\b(?:book|reserv)|\b(?:book|reserv)\w*\b.*\b(?:{_NEGATION}\b|unsuccessful)", re.S
)
_BOOKED = re.compile(
    r"\b(?:is|are|was|been|have|'ve|has|i|successfully|now|all)\s+(?:\w+\s+)?(?:booked|reserved)\b"
    r"|\b(?:booking|reservation)\s+(?:is|was|has been)\s+(?:\w+\s+)?"
    r"(?:booked|confirmed|successful|complete|completed|made)\b"
    r"|^(?:\w+[,!.]?\s+)?(?:booked|reserved)\b"
    r"|\breference\b(?!.*\?)|\byou(?:'re| are) all set\b"
)
_POLITE = re.compile(r"\bno (?:problem|worries)\b")
_BROKEN = re.compile(r"\bwent wrong\b")
_FUTURE = re.compile(r"\b(?:would you like|shall i|should i|do you want|can i|may i|like me to)\b")
_NO_MATCH = re.compile(
    r"\b(?:no|not any|n't any|n't have any)\b[^.?]*\b(?:match\w*|found|available|such|results?|places?|"
    r"restaurants?|hotels?|guesthouses?|trains?|attractions?|options?)\b"
    r"|\bnothing\b|\b(?:could|can|did|do|was)(?:n't| not|not| unable to) (?:find|see|locate|match|have)\b"
    r"|\b(?:unable|not able) to (?:find|locate)\b|\bno luck\b|\bdoes(?:n't| not) (?:exist|match)\b"
    r"|\bnot available\b|\bunavailable\b|\b(?:is|are)n't (?:one|any)\b"
)
_OFFER = re.compile(
    r"\b(?:found|recommend|suggest|there (?:is|are|'s)|how about|what about|i have|we have|located|leaves?|"
    r"departs?|arrives?|serves|offers|try)\b|\bis (?:an?|in|the|located)\b|\btr\d{4}\b"
)

ASKED: Mapping[str, re.Pattern[str]] = {
    "area": re.compile(r"\barea\b|\bpart of town\b|\blocation\b|\bwhich side\b"),
    "pricerange": re.compile(r"\bprice\b|\bbudget\b|\bexpensive\b|\bcheap\b"),
    "food": re.compile(r"\bfood\b|\bcuisine\b"),
    "stars": re.compile(r"\bstars?\b|\brating\b"),
    "parking": re.compile(r"\bparking\b"),
    "internet": re.compile(r"\binternet\b|\bwi-?fi\b"),
    "type": re.compile(r"\btype\b|\bkind\b|\bguest ?house\b"),
    "name": re.compile(r"\bname\b|\bcalled\b|\bin particular\b"),
    "departure": re.compile(r"\bdepart(?:ure|ing)?\b|\bfrom where\b|\bwhere\b.*\bfrom\b|\bleaving from\b"),
    "destination": re.compile(r"\bdestination\b|\bwhere\b.*\bto\b|\bgoing to\b"),
    "leaveAt": re.compile(r"\btime\b|\bwhen\b.*\b(?:leave|depart)|\bleave at\b"),
    "arriveBy": re.compile(r"\btime\b|\bwhen\b.*\barrive|\barrive by\b"),
    "day": re.compile(r"\bday\b|\bdate\b|\bwhen\b"),
    "time": re.compile(r"\btime\b|\bwhen\b"),
    "people": re.compile(r"\bpeople\b|\bparty\b|\bguests?\b|\bpersons?\b|\btickets?\b|\bhow many\b(?!.*night)"),
    "stay": re.compile(r"\bnights?\b|\bhow long\b|\bstay\b"),
}
"""How a question names a slot."""

_ASKING = re.compile(
    r"\?|\b(?:please (?:tell|give|provide|specify)|what|which|how many|how long|i need|need to know"
    r"|let me know)\b"
)
_STATED: Mapping[str, re.Pattern[str]] = {
    "area": re.compile(r"\bin the (centre|north|south|east|west)\b"),
    "pricerange": re.compile(r"\b(cheap|moderate|expensive)\b"),
    "food": re.compile(r"\bserv(?:es|ing) ([a-z ]+?) food\b"),
    "stars": re.compile(r"\b(\d)[ -]stars?\b"),
    "day": re.compile(r"\b(monday|tuesday|wednesday|thursday|friday|saturday|sunday)\b"),
    "type": re.compile(r"\bis an? (?:[\w-]+ ){0,4}?(museum|college|park|theatre|cinema|nightclub|guesthouse)\b"),
    "leaveAt": re.compile(r"\b(?:leav\w+|depart\w*) at (\d\d:\d\d)"),
    "arriveBy": re.compile(r"\barriv\w+ (?:at|by) (\d\d:\d\d)"),
}


@dataclass(frozen=True)
class Heard:
    """An agent's sentence, understood.

    Attributes:
        kind: what the sentence does, the first that fits.
        asked: the slots that it asks about, where it asks.
    """

    kind: Kind
    asked: tuple[str, ...]


def hear(text: str, booking: bool) -> Heard:
    """Understand a sentence.

    Args:
        text: what the agent spoke.
        booking: the user has asked for a booking and waits for it.
    """
    said = _POLITE.sub("", text.lower().replace("’", "'"))
    asks = bool(_ASKING.search(said))
    asked = tuple(slot for slot, pattern in ASKED.items() if pattern.search(said)) if asks else ()
    return Heard(_kind(said, asks, bool(asked), booking), asked)


def _kind(said: str, asks: bool, names_slot: bool, booking: bool) -> Kind:
    future = _FUTURE.search(said)
    if _BROKEN.search(said):
        return "noise"
    if booking:
        if asks and names_slot and not _BOOKED.search(said):
            return "question"
        if _NOT_BOOKED.search(said) or _NO_MATCH.search(said) or "sorry" in said:
            return "not_booked"
        if not future and _BOOKED.search(said):
            return "booked"
        return "question" if asks else "noise"
    if _NO_MATCH.search(said):
        return "no_match"
    if _OFFER.search(said):
        return "offer"
    return "question" if asks else "noise"


def contradictions(text: str, wanted: Mapping[str, str]) -> tuple[str, ...]:
    """Return the wanted slots that an offer states with another value.

    A value that is stated beside the wanted one ("in the north or in the south") is no contradiction.
    """
    said = text.lower()
    found = []
    for slot, value in wanted.items():
        stated = _STATED[slot].findall(said) if slot in _STATED else []
        if slot in ("leaveAt", "arriveBy"):
            right = any(t >= value if slot == "leaveAt" else t <= value for t in stated)
        else:
            right = value.lower() in stated or (slot == "type" and value.lower() in said)
        if stated and not right:
            found.append(slot)
    return tuple(found)
