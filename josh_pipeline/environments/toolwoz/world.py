"""A ToolWOZ goal made playable: which row a search serves, and which ground-truth calls were earned.

One rule for both semantics: the paper's order (spec: repair (e), none). A row is chosen against the goal, so
that an incomplete query can be answered wrongly: a good agent asks for what is missing before it searches.
The outcome is earned / all ground-truth calls, whatever was said.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from josh_pipeline.core.world import Tool, ToolResult, World
from josh_pipeline.environments.toolwoz.databases import Databases, Rows, contains
from josh_pipeline.environments.toolwoz.goal import Goal, Semantics
from josh_pipeline.environments.toolwoz.rules import RULES, Rules
from josh_pipeline.environments.toolwoz.tools import DOMAIN_TOOLS, TOOLS, refusal

INSTRUCTIONS = "Help the user find and book what they ask for."
NOTHING: frozenset[int] = frozenset()

COMPACT_FIELDS: Mapping[str, tuple[str, ...]] = {
    "search_restaurant": ("name", "food", "area", "pricerange"),
    "search_hotel": ("name", "type", "area", "pricerange", "stars"),
    "search_attraction": ("name", "type", "area", "entrance fee"),
    "search_train": ("trainID", "leaveAt", "arriveBy", "price"),
}
"""What a small model is shown of a row: what an offer needs, the id first. Digits are dear (a telephone
number is 12 tokens of SmolLM2's), so numbers that no call needs are left out."""


@dataclass(frozen=True)
class SearchResult(ToolResult):
    """What a search returned: ``{"rows": [row]}`` with the whole row, or none.

    Attributes:
        tool: the search.
        matches: database rows that matched.
    """

    tool: str = ""
    matches: int = 0

    @property
    def brief(self) -> dict[str, Any]:
        """``{"matches": n, field: value, ...}``."""
        row = self.payload["rows"][0] if self.payload["rows"] else {}
        fields = COMPACT_FIELDS[self.tool]
        return {"matches": self.matches} | {field: row[field] for field in fields if field in row}


class Booked(ToolResult):
    """What a booking returned: ``{"success": bool, "entity": id, "reference": text}``."""

    @property
    def brief(self) -> dict[str, Any]:
        """``{"success": bool, "reference": text}``, without what is null."""
        told = {name: self.payload[name] for name in ("success", "reference")}
        return {name: value for name, value in told.items() if value is not None}


@dataclass(frozen=True)
class Quest:
    """One domain of a goal.

    Attributes:
        search, booking: positions of the ground-truth calls in the goal; None where there is none.
        wanted: the search's parameters, as they are compared.
        booked: the booking's parameters, as they are compared.
        entity_id: the target's id; empty where there is no booking.
        record: what a successful booking returns.
        right: rows that are right for ``wanted``.
        target: rows whose id is the target's.
        visible: rows that searches may find.
    """

    search: int | None
    booking: int | None
    wanted: Mapping[str, str]
    booked: Mapping[str, str]
    entity_id: str
    record: Mapping[str, Any]
    right: Rows
    target: Rows
    visible: Rows

    def serve(self, served: Mapping[str, Any], found: Rows) -> Rows:
        """Choose among the rows that a query found.

        Args:
            served: the call's arguments, as serving compares them.
            found: not empty.

        Returns:
            A set whose *last* row is served; empty where nothing is.
        """
        first = found & -found
        if self.search is None:
            return first
        distractors = found & ~self.right
        if contains(served, self.wanted):
            return first if self.booking is None else (found & self.target) or distractors
        if contains(self.wanted, served):
            return distractors or (found & self.target) or first
        return first

    def earned_by_search(self, rewarded: Mapping[str, Any], row: Rows, with_booking: bool) -> bool:
        """Tell whether a ``search_*`` call earns the goal's search.

        Args:
            rewarded: the call's arguments, as the reward compares them.
            row: the returned row.
            with_booking: the search is judged by the booking's target. Without, a query that asks for
                everything earns whatever it returns, and one that asks for less earns with a right row.
        """
        if self.search is None:
            return False
        complete = contains(rewarded, self.wanted)
        if not complete and not contains(self.wanted, rewarded):
            return False
        return bool(row & self.target) if with_booking else complete or bool(row & self.right)

    def earned_by_booking(self, rewarded: Mapping[str, Any]) -> bool:
        """Tell whether a ``book_*`` call earns the goal's booking: its arguments contain the goal's.

        What the call returned does not matter.
        """
        return self.booking is not None and contains(rewarded, self.booked)


def quests(goal: Goal, databases: Databases, rules: Rules) -> dict[str, Quest]:
    """Work out every domain of a goal that has a ground-truth call."""
    position = {call.tool: i for i, call in enumerate(goal.calls)}
    found: dict[str, Quest] = {}
    for task in goal.tasks:
        database = databases[task.domain]
        search, booking = position.get(f"search_{task.domain}"), position.get(f"book_{task.domain}")
        if search is None and booking is None:
            continue
        wanted = {} if search is None else rules.wanted(goal.calls[search].parameters)
        record = {} if booking is None else goal.calls[booking].entity or {}
        entity_id = str(record.get(database.id_key, ""))
        target = rules.identified(database, entity_id) if entity_id else 0
        found[task.domain] = Quest(
            search=search,
            booking=booking,
            wanted=wanted,
            booked={} if booking is None else rules.wanted(goal.calls[booking].parameters),
            entity_id=entity_id,
            record=record,
            right=rules.meeting(database, wanted),
            target=target,
            visible=database.every & ~(rules.hidden(database, task) & ~target),
        )
    return found


class ToolWozWorld(World):
    """One goal, playable. The state is the set of earned ids; all else is shared by every fork.

    Args:
        goal: what the calls are held against; an excluded goal can be played, but not solved.
        databases: domain to its database.
        semantics: ``paper`` or ``audited``; the one that ``goal`` was derived with.
        inside_search: judge ``search_X`` as if it had no booking once ``book_X`` is earned. The
            published code does so inside the JOSH search only; it has no effect under ``audited``.
    """

    def __init__(self, goal: Goal, databases: Databases, semantics: Semantics, inside_search: bool = False) -> None:
        self.goal = goal
        self.semantics: Semantics = semantics
        self._databases = databases
        self._rules = RULES[semantics]
        self._quests = quests(goal, databases, self._rules)
        self._booking_forgotten = inside_search and semantics == "paper"
        self._earned = NOTHING

    @property
    def instructions(self) -> str:
        """What the agent is told about its task."""
        return INSTRUCTIONS

    @property
    def tools(self) -> tuple[Tool, ...]:
        """All tools for a whole goal; for a part, those of its domain."""
        return TOOLS if self.goal.part is None else DOMAIN_TOOLS[self.goal.part]

    @property
    def all_milestones(self) -> frozenset[int]:
        """Positions of the goal's ground-truth calls."""
        return frozenset(range(len(self.goal.calls)))

    def fork(self) -> Self:
        """Return a world in the same state; what has been earned is immutable and shared."""
        return copy.copy(self)

    def milestones(self) -> frozenset[int]:
        """Positions in ``goal.calls`` of the calls earned so far."""
        return self._earned

    def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Execute a call. Faulty calls of any kind give an error result.

        Args:
            tool: any text.
            arguments: anything JSON can hold.
        """
        fault = refusal(tool, arguments, self.semantics)
        if fault is not None:
            if isinstance(arguments, Mapping) and isinstance(tool, str) and tool.startswith("book_"):
                self._earn_booking(tool, arguments)
            return ToolResult({"error": fault}, error=True)
        if tool.startswith("search_"):
            return self._search(tool, arguments)
        return self._book(tool, arguments)

    def _search(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        domain = tool.partition("_")[2]
        quest, database = self._quests.get(domain), self._databases[domain]
        served = self._rules.served(arguments)
        found = self._rules.matching(database, served)
        chosen = found & -found
        if quest is not None:
            found &= quest.visible
            chosen = quest.serve(served, found) if found else 0
        if not chosen:
            return SearchResult({"rows": []}, tool=tool, matches=found.bit_count())
        if quest is not None and quest.search is not None and quest.search not in self._earned:
            with_booking = bool(quest.entity_id) and not (self._booking_forgotten and quest.booking in self._earned)
            rewarded = self._rules.rewarded(arguments)
            if quest.earned_by_search(rewarded, 1 << chosen.bit_length() - 1, with_booking):
                self._earned |= {quest.search}
        rows = [plain_copy(database.last(chosen))]
        return SearchResult({"rows": rows}, tool=tool, matches=found.bit_count())

    def _book(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        quest = self._quests.get(tool.partition("_")[2])
        self._earn_booking(tool, arguments)
        if quest is None or not quest.earned_by_booking(self._rules.served(arguments)):
            return Booked({"success": False, "entity": None, "reference": None})
        return Booked({"success": True, "entity": quest.entity_id, "reference": quest.record.get("reference")})

    def _earn_booking(self, tool: str, arguments: Mapping[str, Any]) -> None:
        quest = self._quests.get(tool.partition("_")[2])
        if quest is None or quest.booking is None or quest.booking in self._earned:
            return
        if quest.earned_by_booking(self._rules.rewarded(arguments)):
            self._earned |= {quest.booking}


def plain_copy(row: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a row, nested lists and objects included, so that no caller can change the database."""
    return {key: copy.deepcopy(value) if isinstance(value, (list, dict)) else value for key, value in row.items()}
