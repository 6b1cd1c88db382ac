"""The goal of a conversation: what the user wants and is told, and the tool calls that would satisfy it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from josh_pipeline.core.environment import Task, WantedCall

Domain = Literal["hotel", "restaurant", "attraction", "train"]
Semantics = Literal["audited", "paper"]
DOMAINS: tuple[Domain, ...] = ("hotel", "attraction", "train", "restaurant")
ID_KEY: Mapping[str, str] = {
    "hotel": "name", "restaurant": "name", "attraction": "name", "train": "trainID"
}  # fmt: skip

_MARKUP = re.compile(r"<[^>]*>")
_REFERENCE = re.compile(r"\b(?:as|from|to) the (?:hotel|restaurant|attraction|train)\b(?: booking)?")
"""A line about one domain may point at another: "in the same area as the hotel"."""
_KEYWORDS: Mapping[str, Domain] = {
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
_KEYWORD = re.compile(r"\b(" + "|".join(_KEYWORDS) + r")\b")
_SLOT_WORDS: Mapping[str, str] = {
    "pricerange": "price range",
    "leaveAt": "leaving after",
    "arriveBy": "arriving by",
    "people": "number of people",
    "stay": "number of nights",
    "stars": "star rating",
}


@dataclass(frozen=True)
class GroundTruthCall(WantedCall):
    """A tool call that the reward asks for.

    Attributes:
        tool: ``search_<domain>`` or ``book_<domain>``.
        parameters: the goal's parameters of that tool; never empty values.
        entity: for a booking its record (``name`` or ``trainID``, ``reference``); for a search of a
            domain with a booking the same record's id; None where there is none.
    """

    parameters: Mapping[str, str]
    entity: Mapping[str, Any] | None

    @property
    def groups(self) -> Mapping[str, str]:
        """By domain, and by act: ``search`` or ``booking``."""
        act, _, domain = self.tool.partition("_")
        return {"domain": domain, "act": "booking" if act == "book" else "search"}

    @property
    def label(self) -> str:
        """``search`` or ``booking``."""
        return self.groups["act"]


@dataclass(frozen=True)
class DomainTask:
    """One domain's share of a goal, as the user simulator needs it (strings only, empties dropped)."""

    domain: Domain
    info: Mapping[str, str]
    fail_info: Mapping[str, str]
    book: Mapping[str, str]
    fail_book: Mapping[str, str]
    requested: tuple[str, ...]


@dataclass(frozen=True)
class Goal(Task):
    """A dialogue's instructions and its ground-truth calls.

    Attributes:
        goal_id: content hash of (corpus digest, semantics, dialogue id, part, message, calls).
        source_id: the dialogue it was derived from.
        split: the corpus's own list.
        kind: ``part`` or ``whole``.
        message: the instructions, markup removed, one sentence or group an element.
        calls: ground-truth calls; the position in this tuple is the milestone id of a call.
        excluded: why this goal cannot be used, None for a usable goal.
        part: the one domain of a part, None for a whole goal.
        tasks: one for each of the goal's domains, in the order of the instructions.
    """

    calls: tuple[GroundTruthCall, ...]
    part: Domain | None
    tasks: tuple[DomainTask, ...]

    @property
    def dialogue_id(self) -> str:
        """The dialogue it was derived from."""
        return self.source_id

    @property
    def domains(self) -> tuple[Domain, ...]:
        """The domains of the goal, in the order of its tasks."""
        return tuple(task.domain for task in self.tasks)


def instructions(message: Any) -> tuple[str, ...]:
    """Return the lines of a record's ``goal["message"]`` without markup; odd ones are left out."""
    lines = [message] if isinstance(message, str) else message if isinstance(message, list) else []
    plain = (" ".join(_MARKUP.sub("", line).split()) for line in lines if isinstance(line, str))
    return tuple(line for line in plain if line)


def line_domains(lines: Sequence[str]) -> tuple[Domain | None, ...]:
    """Return the domain that each line speaks of: its own first keyword's, else the line's before it."""
    domains: list[Domain | None] = []
    current: Domain | None = None
    for line in lines:
        found = _KEYWORD.search(_REFERENCE.sub("", line.lower()))
        current = _KEYWORDS[found[1]] if found else current
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
        f"{_SLOT_WORDS.get(slot, slot)} {value}"
        for slot, value in {**task.info, **task.book}.items()
        if value.lower() not in ("yes", "no") and not _says(text, value.lower())
    ]
    return (*kept, f"For the {task.domain}: {', '.join(missing)}") if missing else tuple(kept)


def _says(text: str, value: str) -> bool:
    """Tell whether a text holds a value as words of their own: "4 people" does not say "14:00"."""
    return re.search(rf"(?<![\w:]){re.escape(value)}(?![\w:])", text) is not None
