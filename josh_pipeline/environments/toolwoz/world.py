"""A ToolWOZ goal made playable: implements ``josh_pipeline.core.world.World``."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from josh_pipeline.core.messages import Conversation
from josh_pipeline.core.world import Tool, ToolResult, World
from josh_pipeline.environments.toolwoz.databases import Database, databases_of
from josh_pipeline.environments.toolwoz.goal import Domain, Goal, Semantics
from josh_pipeline.environments.toolwoz.quest import Quest, quests
from josh_pipeline.environments.toolwoz.records import Corpus
from josh_pipeline.environments.toolwoz.rewards import earned_by_booking, earned_by_search
from josh_pipeline.environments.toolwoz.semantics import rules_of
from josh_pipeline.environments.toolwoz.serving import serve
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
class Served(ToolResult):
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
        return {
            name: self.payload[name] for name in ("success", "reference") if self.payload[name] is not None
        }


class ToolWozWorld(World):
    """One goal, playable. The state is the set of earned ids; all else is shared by every fork.

    Args:
        goal: what the calls are held against; an excluded goal can be played, but not solved.
        databases: domain to its database.
        semantics: ``paper`` or ``audited``; the one that ``goal`` was derived with.
        inside_search: judge ``search_X`` as if it had no booking once ``book_X`` is earned. The
            published code does so inside the JOSH search only; it has no effect under ``audited``.
    """

    def __init__(
        self,
        goal: Goal,
        databases: Mapping[Domain, Database],
        semantics: Semantics,
        inside_search: bool = False,
    ) -> None:
        self.goal = goal
        self.semantics: Semantics = semantics
        self._databases = databases
        self._rules = rules_of(semantics)
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

    def outcome(self, conversation: Conversation) -> float:
        """Return earned / all ground-truth calls; the conversation's words do not matter."""
        return len(self._earned) / len(self.goal.calls) if self.goal.calls else 0.0

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

    def _quest(self, tool: str) -> Quest | None:
        domain: Any = tool.partition("_")[2]
        return self._quests.get(domain)

    def _search(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        quest = self._quest(tool)
        domain: Any = tool.partition("_")[2]
        database = self._databases[domain]
        found = self._rules.matching(database, arguments)
        if quest is not None:
            found &= quest.visible
        chosen = serve(quest, self._rules.served(arguments), found)
        if not chosen:
            return Served({"rows": []}, tool=tool, matches=found.bit_count())
        bit = 1 << chosen.bit_length() - 1
        if quest is not None and quest.search is not None and quest.search not in self._earned:
            with_booking = bool(quest.entity_id) and not (
                self._booking_forgotten and quest.booking in self._earned
            )
            rewarded = self._rules.rewarded(arguments)
            if earned_by_search(
                quest, rewarded, bool(bit & quest.target), bool(bit & quest.right), with_booking
            ):
                self._earned |= {quest.search}
        rows = [plain_copy(database.last(chosen))]
        return Served({"rows": rows}, tool=tool, matches=found.bit_count())

    def _book(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        quest = self._quest(tool)
        success = quest is not None and earned_by_booking(quest, self._rules.served(arguments))
        self._earn_booking(tool, arguments)
        record = quest.record if quest is not None and success else {}
        entity = quest.entity_id if quest is not None and success else None
        return Booked({"success": success, "entity": entity, "reference": record.get("reference")})

    def _earn_booking(self, tool: str, arguments: Mapping[str, Any]) -> None:
        quest = self._quest(tool)
        if quest is None or quest.booking is None or quest.booking in self._earned:
            return
        if earned_by_booking(quest, self._rules.rewarded(arguments)):
            self._earned |= {quest.booking}


def plain_copy(row: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a row, nested lists and objects included, so that no caller can change the database."""
    return {
        key: copy.deepcopy(value) if isinstance(value, (list, dict)) else value for key, value in row.items()
    }


def worlds(
    corpus: Corpus, semantics: Semantics, inside_search: bool = False
) -> Callable[[Goal], ToolWozWorld]:
    """Return what makes a fresh world of a goal; databases are indexed once a process and shared."""
    databases = databases_of(corpus)

    def world(goal: Goal) -> ToolWozWorld:
        return ToolWozWorld(goal, databases, semantics, inside_search)

    return world
