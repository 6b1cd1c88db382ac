"""``josh solvability``: what ToolWOZ holds, what an oracle earns of it, and what the repairs change."""

import json
from collections import Counter
from collections.abc import Iterable
from typing import TextIO

from josh_pipeline.environments.toolwoz.goal import Goal, Semantics
from josh_pipeline.environments.toolwoz.goals import REASONS, derive_goals
from josh_pipeline.environments.toolwoz.oracle import solvability
from josh_pipeline.environments.toolwoz.records import Corpus
from josh_pipeline.environments.toolwoz.repairs import CAUSES, REPAIRS, misses, repaired_goals
from josh_pipeline.environments.toolwoz.world import worlds

SEMANTICS: tuple[Semantics, ...] = ("paper", "audited")
SPLITS = ("train", "val", "test")


def run(corpus: Corpus, out: TextIO, as_json: bool = False) -> int:
    """Write the counts of a corpus and of each of its lists; ``as_json`` gives ``counts`` as JSON."""
    if as_json:
        out.write(json.dumps(counts(corpus)) + "\n")
        return 0
    for semantics in SEMANTICS:
        goals = derive_goals(corpus, semantics)
        out.write(f"{semantics}\n")
        for split in SPLITS:
            found = oracle_counts(corpus, semantics, [goal for goal in goals if goal.split == split])
            if found["goals"]:
                solved = f"the oracle solves {found['oracle_solves']} of {found['usable']}"
                out.write(f"  {split:5}  goals {found['goals']}, {solved}\n")
        out.write(f"  ground-truth calls: {words(by_length(goals))}\n  tools: {words(by_tool(goals))}\n")
        for goal in goals:
            if goal.excluded is not None:
                out.write(f"  excluded: {goal.dialogue_id}: {goal.excluded}: {REASONS[goal.excluded]}\n")
    missed = misses(corpus)
    out.write(f"\nsearches that the oracle misses under paper: {len(missed)}\n")
    for cause, number in Counter(miss.cause for miss in missed).most_common():
        out.write(f"  {number:4}  {cause}: {CAUSES[cause]}\n")
    for miss in missed:
        out.write(f"        {miss.dialogue_id}  {miss.tool}  {miss.cause}\n")
    out.write("\ngoals that each repair of audited changes\n")
    for name, dialogues in repaired_goals(corpus).items():
        out.write(f"  {len(dialogues):4}  {name}: {REPAIRS[name]}\n")
    return 0


def counts(corpus: Corpus) -> dict[str, object]:
    """Return the counts as JSON-serialisable values."""
    result: dict[str, object] = {"corpus": corpus.name}
    for semantics in SEMANTICS:
        goals = derive_goals(corpus, semantics)
        lists = {split: [goal for goal in goals if goal.split == split] for split in SPLITS}
        result[semantics] = {
            **oracle_counts(corpus, semantics, goals),
            "lists": {
                split: oracle_counts(corpus, semantics, on_list)
                for split, on_list in lists.items()
                if on_list
            },
            "calls": by_length(goals),
            "tools": by_tool(goals),
            "excluded": {goal.dialogue_id: goal.excluded for goal in goals if goal.excluded},
        }
    missed = misses(corpus)
    result["missed"] = [[miss.dialogue_id, miss.tool, miss.cause] for miss in missed]
    result["causes"] = dict(Counter(miss.cause for miss in missed))
    result["repairs"] = {name: len(dialogues) for name, dialogues in repaired_goals(corpus).items()}
    return result


def oracle_counts(corpus: Corpus, semantics: Semantics, goals: list[Goal]) -> dict[str, int]:
    """Count goals, those that are not excluded, and those of them that the oracle solves."""
    verdicts = solvability(goals, worlds(corpus, semantics))
    solved = sum(not verdict.missed for verdict in verdicts)
    return {"goals": len(goals), "usable": len(verdicts), "oracle_solves": solved}


def by_length(goals: Iterable[Goal]) -> dict[str, int]:
    """Return number of ground-truth calls to number of goals."""
    return {str(n): c for n, c in sorted(Counter(len(goal.calls) for goal in goals).items())}


def by_tool(goals: Iterable[Goal]) -> dict[str, int]:
    """Return tool to number of ground-truth calls."""
    return dict(sorted(Counter(call.tool for goal in goals for call in goal.calls).items()))


def words(numbers: dict[str, int]) -> str:
    """Return counts as a phrase."""
    return ", ".join(f"{name}: {number}" for name, number in numbers.items())
