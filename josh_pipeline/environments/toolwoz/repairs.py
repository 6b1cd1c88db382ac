"""What ``audited`` repairs, which goals each repair changes, and why ``paper`` cannot be solved.

The repairs themselves are functions of ``values``, ``semantics`` and ``goals``; here they are counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from josh_pipeline.environments.toolwoz.databases import Database, Rows, databases_of
from josh_pipeline.environments.toolwoz.goal import Domain, Goal, GroundTruthCall
from josh_pipeline.environments.toolwoz.goals import derive_goals
from josh_pipeline.environments.toolwoz.oracle import solvability
from josh_pipeline.environments.toolwoz.records import Corpus
from josh_pipeline.environments.toolwoz.semantics import AUDITED, PAPER, failing, satisfying
from josh_pipeline.environments.toolwoz.world import worlds

REPAIRS: Mapping[str, str] = {
    "normalised": "Values of calls, goals and rows compare in lower case and without apostrophes.",
    "inclusive": "leaveAt and arriveBy include the time itself and compare in minutes of the day.",
    "target": "A booking is about an entity that the goal's own search finds.",
    "hidden": "What the user asks for first and is told not to exist is not found.",
}
"""Name to what it does. The order in which rows are served is not repaired: it changes no goal."""

CAUSES: Mapping[str, str] = {
    "apostrophe": "The value has an apostrophe: arguments lose it, database values keep it.",
    "case": "The value is not in lower case: arguments are lowered, database values are not.",
    "strict_time": "The train leaves or arrives at the very time asked for, and times are strict.",
    "absent_entity": "The booked entity is not in the database.",
    "violating_entity": "The booked entity does not satisfy the goal's own search.",
    "no_entity": "No row of the database satisfies the goal's search.",
}
"""Why the oracle misses a search under ``paper`` semantics."""


@dataclass(frozen=True)
class Miss:
    """A search that the oracle does not earn under ``paper`` semantics."""

    dialogue_id: str
    tool: str
    cause: str


def misses(corpus: Corpus) -> list[Miss]:
    """Return every search of the corpus that the oracle misses under ``paper``, with its cause."""
    databases = databases_of(corpus)
    found = []
    for verdict in solvability(derive_goals(corpus, "paper"), worlds(corpus, "paper")):
        for call in verdict.goal.calls:
            if call.tool in verdict.missed:
                cause = cause_of(call, database_of(call, databases))
                found.append(Miss(verdict.goal.dialogue_id, call.tool, cause))
    return found


def cause_of(call: GroundTruthCall, database: Database) -> str:
    """Say why a search cannot be earned under ``paper`` by asking for exactly what the goal wants."""
    wanted = AUDITED.wanted(call.parameters)
    right = satisfying(database, wanted)
    if call.entity is not None:
        booked = AUDITED.identified(database, str(call.entity[database.id_key]))
        if not booked:
            return "absent_entity"
        if not right & booked:
            return "violating_entity"
        right &= booked
    if not right:
        return "no_entity"
    if not right & strictly_matching(database, wanted):
        return "strict_time"
    written = [*call.parameters.values(), *(str(value) for value in (call.entity or {}).values())]
    return "apostrophe" if any("'" in value for value in written) else "case"


def repaired_goals(corpus: Corpus) -> dict[str, tuple[str, ...]]:
    """Return the dialogues whose goal each repair changes, by the name of the repair.

    ``normalised`` and ``inclusive`` change a goal when the goal's own search finds other rows, or other
    rows count as right or as the target, than without the repair; ``target`` when the booking is about
    another entity or the goal is excluded; ``hidden`` when at least one row is hidden.
    """
    databases = databases_of(corpus)
    audited = {goal.dialogue_id: goal for goal in derive_goals(corpus, "audited")}
    changed: dict[str, list[str]] = {name: [] for name in REPAIRS}
    for goal in derive_goals(corpus, "paper"):
        searches = [
            (call, database_of(call, databases)) for call in goal.calls if call.tool.startswith("search_")
        ]
        effects = {
            "normalised": any(normalised_changes(call, database) for call, database in searches),
            "inclusive": any(inclusive_changes(call, database) for call, database in searches),
            "target": target_changes(goal, audited[goal.dialogue_id]),
            "hidden": any(failing(databases[task.domain], task) for task in goal.tasks),
        }
        for name, changes in effects.items():
            if changes:
                changed[name].append(goal.dialogue_id)
    return {name: tuple(ids) for name, ids in changed.items()}


def normalised_changes(call: GroundTruthCall, database: Database) -> bool:
    """Tell whether reading both sides normalised changes what a goal's search finds, times aside."""
    found = PAPER.matching(database, call.parameters)
    if found != strictly_matching(database, AUDITED.wanted(call.parameters)):
        return True
    booked = "" if call.entity is None else str(call.entity[database.id_key])
    return PAPER.identified(database, booked) != AUDITED.identified(database, booked)


def inclusive_changes(call: GroundTruthCall, database: Database) -> bool:
    """Tell whether inclusive times change what a goal's search finds, or which rows are right."""
    wanted = AUDITED.wanted(call.parameters)
    right = satisfying(database, wanted)
    return right != strictly_matching(database, wanted) or right != PAPER.meeting(database, wanted)


def target_changes(paper: Goal, audited: Goal) -> bool:
    """Tell whether a booking of the goal is about another entity, or the goal is excluded."""
    if audited.excluded == "no_entity":
        return True
    bookings = [call.parameters for call in paper.calls if call.tool.startswith("book_")]
    moved = [call.parameters for call in audited.calls if call.tool.startswith("book_")]
    return [AUDITED.wanted(p) for p in bookings] != [AUDITED.wanted(p) for p in moved]


def strictly_matching(database: Database, wanted: Mapping[str, str]) -> Rows:
    """Return what a query finds with ``normalised`` repaired and ``inclusive`` not."""
    rows = database.every
    for key, value in wanted.items():
        if key == "leaveAt":
            rows &= database.clock_text[key].above(value)
        elif key == "arriveBy":
            rows &= database.clock_text[key].below(value)
        else:
            rows &= database.canonical[key].get(value, 0)
    return rows


def database_of(call: GroundTruthCall, databases: Mapping[Domain, Database]) -> Database:
    """Return the database that a search is about."""
    return next(databases[d] for d in databases if call.tool == f"search_{d}")
