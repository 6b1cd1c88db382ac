"""The instructions of a goal: markup removed, and which domain each line speaks of."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from josh_pipeline.environments.toolwoz.goal import Domain, DomainTask

MARKUP = re.compile(r"<[^>]*>")
REFERENCE = re.compile(r"\b(?:as|from|to) the (?:hotel|restaurant|attraction|train)\b(?: booking)?")
"""A line about one domain may point at another: "in the same area as the hotel"."""
KEYWORDS: Mapping[str, Domain] = {
    "hotel": "hotel",
    "guesthouse": "hotel",
    "place to stay": "hotel",
    "restaurant": "restaurant",
    "place to dine": "restaurant",
    "table": "restaurant",
    "attraction": "attraction",
    "places to go": "attraction",
    "train": "train",
}
KEYWORD = re.compile(r"\b(" + "|".join(KEYWORDS) + r")\b")
SLOT_WORDS: Mapping[str, str] = {
    "pricerange": "price range",
    "leaveAt": "leaving after",
    "arriveBy": "arriving by",
    "people": "number of people",
    "stay": "number of nights",
    "stars": "star rating",
}


def instructions(message: Any) -> tuple[str, ...]:
    """Return the lines of a record's ``goal["message"]`` without markup; odd ones are left out."""
    lines = [message] if isinstance(message, str) else message if isinstance(message, list) else []
    plain = (" ".join(MARKUP.sub("", line).split()) for line in lines if isinstance(line, str))
    return tuple(line for line in plain if line)


def line_domains(lines: Sequence[str]) -> tuple[Domain | None, ...]:
    """Return the domain that each line speaks of: its own first keyword's, else the line's before it."""
    domains: list[Domain | None] = []
    current: Domain | None = None
    for line in lines:
        found = KEYWORD.search(REFERENCE.sub("", line.lower()))
        current = KEYWORDS[found[1]] if found else current
        domains.append(current)
    return tuple(domains)


def part_message(lines: Sequence[str], task: DomainTask) -> tuple[str, ...]:
    """Return what concerns one domain, complete in itself.

    What the lines only point at ("the same day as the hotel booking") is said in a line of its own.
    """
    spoken = zip(lines, line_domains(lines), strict=True)
    kept = [line.replace("You are also", "You are") for line, domain in spoken if domain == task.domain]
    text = " ".join(kept).lower()
    missing = [
        f"{SLOT_WORDS.get(slot, slot)} {value}"
        for slot, value in {**task.info, **task.book}.items()
        if value.lower() not in ("yes", "no") and not says(text, value.lower())
    ]
    return (*kept, f"For the {task.domain}: {', '.join(missing)}") if missing else tuple(kept)


def says(text: str, value: str) -> bool:
    """Tell whether a text holds a value as words of their own: "4 people" does not say "14:00"."""
    return re.search(rf"(?<![\w:]){re.escape(value)}(?![\w:])", text) is not None
