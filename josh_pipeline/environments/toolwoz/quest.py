"""One domain of a goal, worked out against the database once: what serving and rewards ask of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from josh_pipeline.environments.toolwoz.databases import Database, Rows
from josh_pipeline.environments.toolwoz.goal import Domain, DomainTask, Goal
from josh_pipeline.environments.toolwoz.semantics import Rules


@dataclass(frozen=True)
class Quest:
    """One domain of a goal.

    Attributes:
        database: the domain's rows.
        search, booking: positions of the ground-truth calls in the goal; None where there is none.
        wanted: the search's parameters, as they are compared.
        booked: the booking's parameters, as they are compared.
        entity_id: the target's id; empty where there is no booking.
        record: what a successful booking returns.
        right: rows that are right for ``wanted``.
        target: rows whose id is the target's.
        visible: rows that searches may find.
    """

    database: Database
    search: int | None
    booking: int | None
    wanted: Mapping[str, str]
    booked: Mapping[str, str]
    entity_id: str
    record: Mapping[str, Any]
    right: Rows
    target: Rows
    visible: Rows


def quests(goal: Goal, databases: Mapping[Domain, Database], rules: Rules) -> dict[Domain, Quest]:
    """Work out every domain of a goal that has a ground-truth call."""
    position = {call.tool: i for i, call in enumerate(goal.calls)}
    found: dict[Domain, Quest] = {}
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
        database=database,
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
