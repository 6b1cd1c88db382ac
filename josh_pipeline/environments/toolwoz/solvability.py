"""``josh solvability``: what an oracle earns, why ``paper`` cannot be solved, and what each repair changes.

The repairs themselves are functions of ``databases``, ``rules`` and ``goals``; here they are counted.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TextIO

from josh_pipeline.core.command import cache_of
from josh_pipeline.core.environment import ROLES
from josh_pipeline.core.oracle import Solved, solved_by_oracle
from josh_pipeline.core.progress import TerminalProgress
from josh_pipeline.environments.toolwoz.corpus import Corpus
from josh_pipeline.environments.toolwoz.databases import Database
from josh_pipeline.environments.toolwoz.environment import ToolWoz
from josh_pipeline.environments.toolwoz.goal import Goal, GroundTruthCall, Semantics
from josh_pipeline.environments.toolwoz.goals import REASONS, derive_goals
from josh_pipeline.environments.toolwoz.rules import AUDITED, PAPER, strictly_matching
from josh_pipeline.environments.toolwoz.settings import CorpusSettings, GoalSettings, ToolWozSettings

BOTH: tuple[Semantics, ...] = ("paper", "audited")

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


def command(options: argparse.Namespace) -> int:
    """Read the corpus and print its counts."""
    settings = ToolWozSettings(corpus=CorpusSettings(source=options.corpus))
    with TerminalProgress() as progress:
        corpus = ToolWoz.read(settings, cache_of(options.home), progress).corpus
    if options.json:
        print(json.dumps(counts(corpus)))
    else:
        write_counts(corpus, sys.stdout)
    return 0


def write_counts(corpus: Corpus, out: TextIO) -> None:
    """Write the counts of a corpus and of each of its lists."""
    found = counts(corpus)
    for semantics in BOTH:
        out.write(f"{semantics}\n")
        for split, one in found[semantics]["lists"].items():
            solved = f"the oracle solves {one['oracle_solves']} of {one['usable']}"
            out.write(f"  {split:5}  goals {one['goals']}, {solved}\n")
        for label, name in (("ground-truth calls", "calls"), ("tools", "tools")):
            out.write(f"  {label}: {', '.join(f'{key}: {n}' for key, n in found[semantics][name].items())}\n")
        for dialogue_id, reason in found[semantics]["excluded"].items():
            out.write(f"  excluded: {dialogue_id}: {reason}: {REASONS[reason]}\n")
    out.write(f"\nsearches that the oracle misses under paper: {len(found['missed'])}\n")
    for cause, number in Counter(found["causes"]).most_common():
        out.write(f"  {number:4}  {cause}: {CAUSES[cause]}\n")
    for miss in found["missed"]:
        out.write(f"        {'  '.join(miss)}\n")
    out.write("\ngoals that each repair of audited changes\n")
    for name, number in found["repairs"].items():
        out.write(f"  {number:4}  {name}: {REPAIRS[name]}\n")


def counts(corpus: Corpus) -> dict[str, Any]:
    """Return the counts as JSON-serialisable values."""
    result: dict[str, Any] = {"corpus": corpus.name}
    for semantics in BOTH:
        goals = derive_goals(corpus, semantics)
        lists = {split: [goal for goal in goals if goal.split == split] for split in ROLES}
        lengths, tools = Counter(len(goal.calls) for goal in goals), Counter(c.tool for g in goals for c in g.calls)
        result[semantics] = {
            **oracle_counts(corpus, semantics, goals),
            "lists": {split: oracle_counts(corpus, semantics, on_list) for split, on_list in lists.items() if on_list},
            "calls": {str(length): number for length, number in sorted(lengths.items())},
            "tools": dict(sorted(tools.items())),
            "excluded": {goal.dialogue_id: goal.excluded for goal in goals if goal.excluded},
        }
    missed = misses(corpus)
    result["missed"] = [list(miss) for miss in missed]
    result["causes"] = dict(Counter(miss.cause for miss in missed))
    result["repairs"] = {name: len(dialogues) for name, dialogues in repaired_goals(corpus).items()}
    return result


def oracle_counts(corpus: Corpus, semantics: Semantics, goals: list[Goal]) -> dict[str, int]:
    """Count goals, those that are not excluded, and those of them that the oracle solves."""
    verdicts = solvability(corpus, semantics, goals)
    solved = sum(not verdict.missed for _, verdict in verdicts)
    return {"goals": len(goals), "usable": len(verdicts), "oracle_solves": solved}


def solvability(corpus: Corpus, semantics: Semantics, goals: Iterable[Goal]) -> list[tuple[Goal, Solved]]:
    """Make each ground-truth call of the goals that are not excluded, with exactly the goal's parameters."""
    environment = ToolWoz(ToolWozSettings(goals=GoalSettings(semantics=semantics)), corpus)
    found = ((goal, solved_by_oracle(environment, goal)) for goal in goals)
    return [(goal, solved) for goal, solved in found if solved is not None]


class Miss(NamedTuple):
    """A search that the oracle does not earn under ``paper`` semantics."""

    dialogue_id: str
    tool: str
    cause: str


def misses(corpus: Corpus) -> list[Miss]:
    """Return every search of the corpus that the oracle misses under ``paper``, with its cause."""
    databases = corpus.indexed
    return [
        Miss(goal.dialogue_id, call.tool, _cause(call, databases[call.groups["domain"]]))
        for goal, verdict in solvability(corpus, "paper", derive_goals(corpus, "paper"))
        for call in goal.calls
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
    databases = corpus.indexed
    audited = {goal.dialogue_id: goal for goal in derive_goals(corpus, "audited")}
    changed: dict[str, list[str]] = {name: [] for name in REPAIRS}
    for goal in derive_goals(corpus, "paper"):
        searches = [(call, databases[call.groups["domain"]]) for call in goal.calls if call.label == "search"]
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
    bookings, moved = (
        [AUDITED.wanted(call.parameters) for call in goal.calls if call.label == "booking"] for goal in (paper, audited)
    )
    return audited.excluded == "no_entity" or bookings != moved
