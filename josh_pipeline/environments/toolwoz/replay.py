"""``josh replay``: recorded calls in, results and rewards out, one line for one line."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from josh_pipeline.environments.toolwoz.databases import databases_of
from josh_pipeline.environments.toolwoz.goal import Goal, Semantics
from josh_pipeline.environments.toolwoz.goals import REASONS, derive_goals
from josh_pipeline.environments.toolwoz.records import Corpus
from josh_pipeline.environments.toolwoz.tools import shown
from josh_pipeline.environments.toolwoz.world import ToolWozWorld

FORM = '{"dialogue_id": ..., "calls": [{"tool": ..., "arguments": ...}, ...]}'


class MalformedLineError(Exception):
    """A line that cannot be replayed; the message says why."""


def run(corpus: Corpus, semantics: Semantics, lines: Iterable[str], out: TextIO) -> int:
    """Replay lines as they come.

    Args:
        corpus: dialogues and databases.
        semantics: how calls are answered and rewarded.
        lines: ``{"dialogue_id", "calls": [{"tool", "arguments"}]}`` as JSON; arguments may hold anything.
        out: gets exactly one line for each: ``{"dialogue_id", "results", "earned", "reward"}``, or
            ``{"line": number from 1, "error": text}`` for a malformed one.

    Returns:
        0: a malformed line is a result, not a failure.
    """
    databases = databases_of(corpus)
    goals = {goal.dialogue_id: goal for goal in derive_goals(corpus, semantics)}
    known = {dialogue.dialogue_id for dialogue in corpus.dialogues}
    for number, line in enumerate(lines, start=1):
        try:
            goal, calls = read_line(line, goals, known)
        except MalformedLineError as fault:
            answer: dict[str, Any] = {"line": number, "error": str(fault)}
        else:
            answer = replayed(goal, ToolWozWorld(goal, databases, semantics), calls)
        out.write(json.dumps(answer) + "\n")
    return 0


def read_line(line: str, goals: Mapping[str, Goal], known: set[str]) -> tuple[Goal, list[tuple[Any, Any]]]:
    """Return the goal that a line names, and its calls as (tool, arguments), both unchecked.

    Raises:
        MalformedLineError: it is not JSON of the form that ``run`` takes, or names no usable goal.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as fault:
        raise MalformedLineError(f"The line is not JSON that can be read ({type(fault).__name__}).") from None
    if not isinstance(record, dict):
        raise MalformedLineError(f"The line is not an object of the form {FORM}.")
    dialogue_id, calls = record.get("dialogue_id"), record.get("calls")
    if not isinstance(dialogue_id, str) or not isinstance(calls, list):
        raise MalformedLineError(f"The line is not of the form {FORM}.")
    goal = goals.get(dialogue_id.removesuffix(".json"))
    if goal is None:
        unknown = dialogue_id.removesuffix(".json") not in known
        raise MalformedLineError(
            f"The corpus has no dialogue {shown(dialogue_id)}."
            if unknown
            else f"Dialogue {shown(dialogue_id)} is no ToolWOZ goal: it asks for taxi, police or hospital."
        )
    if goal.excluded is not None:
        raise MalformedLineError(f"Dialogue {shown(dialogue_id)} is excluded: {REASONS[goal.excluded]}")
    if not all(isinstance(call, dict) and "tool" in call and "arguments" in call for call in calls):
        raise MalformedLineError("A call is not an object with tool and arguments.")
    return goal, [(call["tool"], call["arguments"]) for call in calls]


def replayed(goal: Goal, world: ToolWozWorld, calls: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    """Make the calls and return the answer line."""
    results = [world.call(tool, arguments).payload for tool, arguments in calls]
    earned = world.milestones()
    return {
        "dialogue_id": goal.dialogue_id,
        "results": results,
        "earned": [call.tool for i, call in enumerate(goal.calls) if i in earned],
        "reward": world.outcome(()),
    }
