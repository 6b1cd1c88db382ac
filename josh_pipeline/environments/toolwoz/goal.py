"""The goal of a conversation: what the user wants, and the tool calls that would satisfy it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from josh_pipeline.core.environment import Task, WantedCall

Domain = Literal["hotel", "restaurant", "attraction", "train"]
Semantics = Literal["audited", "paper"]
DOMAINS: tuple[Domain, ...] = ("hotel", "attraction", "train", "restaurant")
ID_KEY: dict[str, str] = {"hotel": "name", "restaurant": "name", "attraction": "name", "train": "trainID"}


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
