"""What an oracle earns, why ``paper`` cannot always be solved, and which goals each repair changes.

The repairs themselves are functions of ``values``, ``rules`` and ``goals``; here they are counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from josh_pipeline.environments.toolwoz.corpus import Corpus
from josh_pipeline.environments.toolwoz.databases import Database, databases_of
from josh_pipeline.environments.toolwoz.goal import Goal, GroundTruthCall, Semantics
from josh_pipeline.environments.toolwoz.goals import derive_goals
from josh_pipeline.environments.toolwoz.rules import AUDITED, PAPER, strictly_matching
from josh_pipeline.environments.toolwoz.world import ToolWozWorld

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
class Verdict:
    """What the oracle got of one goal.

    Attributes:
        goal: the goal.
        reward: earned / all.
        missed: tools of the calls that were not earned.
    """

    goal: Goal
    reward: float
    missed: tuple[str, ...]


def solvability(corpus: Corpus, semantics: Semantics, goals: Sequence[Goal]) -> list[Verdict]:
    """Make each ground-truth call of the goals that are not excluded, with exactly the goal's parameters."""
    verdicts = []
    for goal in goals:
        if goal.excluded is None:
            world = ToolWozWorld(goal, databases_of(corpus), semantics)
            for call in goal.calls:
                world.call(call.tool, call.parameters)
            missed = tuple(c.tool for i, c in enumerate(goal.calls) if i not in world.milestones())
            verdicts.append(Verdict(goal, world.outcome(()), missed))
    return verdicts


@dataclass(frozen=True)
class Miss:
    """A search that the oracle does not earn under ``paper`` semantics."""

    dialogue_id: str
    tool: str
    cause: str


def misses(corpus: Corpus) -> list[Miss]:
    """Return every search of the corpus that the oracle misses under ``paper``, with its cause."""
    databases = databases_of(corpus)
    return [
        Miss(verdict.goal.dialogue_id, call.tool, _cause(call, databases[call.groups["domain"]]))
        for verdict in solvability(corpus, "paper", derive_goals(corpus, "paper"))
        for call in verdict.goal.calls
        if call.tool in verdict.missed
    ]


def _cause(call: GroundTruthCall, database: Database) -> str:
    """Say why a search cannot be earned under ``paper`` by asking for exactly what the goal wants."""
    wanted = AUDITED.wanted(call.parameters)
    right = AUDITED.meeting(database, wanted)
    if call.entity is not None:
        booked = AUDITED.identified(database, str(call.entity[database.id_key]))
        if not booked:
            return "absent_entity"
        if not right & booked:
            return "violating_entity"
        right &= booked
    if not right:
        return "no_entity"
    if not right & strictly_matching(database, wanted, database.canonical):
        return "strict_time"
    written = [*call.parameters.values(), *map(str, (call.entity or {}).values())]
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
            (call, databases[call.groups["domain"]]) for call in goal.calls if call.label == "search"
        ]
        effects = {
            "normalised": any(_normalised_changes(call, database) for call, database in searches),
            "inclusive": any(_inclusive_changes(call, database) for call, database in searches),
            "target": _target_changes(goal, audited[goal.dialogue_id]),
            "hidden": any(AUDITED.hidden(databases[task.domain], task) for task in goal.tasks),
        }
        for name, changes in effects.items():
            if changes:
                changed[name].append(goal.dialogue_id)
    return {name: tuple(ids) for name, ids in changed.items()}


def _normalised_changes(call: GroundTruthCall, database: Database) -> bool:
    """Tell whether reading both sides normalised changes what a goal's search finds, times aside."""
    found = PAPER.matching(database, PAPER.served(call.parameters))
    if found != strictly_matching(database, AUDITED.wanted(call.parameters), database.canonical):
        return True
    booked = "" if call.entity is None else str(call.entity[database.id_key])
    return PAPER.identified(database, booked) != AUDITED.identified(database, booked)


def _inclusive_changes(call: GroundTruthCall, database: Database) -> bool:
    """Tell whether inclusive times change what a goal's search finds, or which rows are right."""
    wanted = AUDITED.wanted(call.parameters)
    right = AUDITED.meeting(database, wanted)
    strict = strictly_matching(database, wanted, database.canonical)
    return right != strict or right != PAPER.meeting(database, wanted)


def _target_changes(paper: Goal, audited: Goal) -> bool:
    """Tell whether a booking of the goal is about another entity, or the goal is excluded."""
    if audited.excluded == "no_entity":
        return True
    bookings, moved = (
        [AUDITED.wanted(call.parameters) for call in goal.calls if call.label == "booking"]
        for goal in (paper, audited)
    )
    return bookings != moved
