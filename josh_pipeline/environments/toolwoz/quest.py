"""One domain of a goal, worked out against the database once: which row a search serves, what calls earn.

One rule for both semantics: the paper's order (spec: repair (e), none). A row is chosen against the goal, so
that an incomplete query can be answered wrongly: a good agent asks for what is missing before it searches.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from josh_pipeline.environments.toolwoz.databases import Database, Databases, Rows
from josh_pipeline.environments.toolwoz.goal import DomainTask, Goal
from josh_pipeline.environments.toolwoz.rules import Rules
from josh_pipeline.environments.toolwoz.values import contains


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
        search = position.get(f"search_{task.domain}")
        booking = position.get(f"book_{task.domain}")
        if search is not None or booking is not None:
            found[task.domain] = _quest(goal, task, databases[task.domain], search, booking, rules)
    return found


def _quest(
    goal: Goal, task: DomainTask, database: Database, search: int | None, booking: int | None, rules: Rules
) -> Quest:
    wanted = {} if search is None else rules.wanted(goal.calls[search].parameters)
    record = {} if booking is None else goal.calls[booking].entity or {}
    entity_id = str(record.get(database.id_key, ""))
    target = rules.identified(database, entity_id) if entity_id else 0
    return Quest(
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
