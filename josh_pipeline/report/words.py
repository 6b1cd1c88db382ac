"""Search trees in words: what a turn did, what came back, how a branch ended."""

from collections.abc import Mapping, Sequence
from typing import Any

from josh_pipeline.core.messages import visible
from josh_pipeline.core.world import CallRecord
from josh_pipeline.environments.toolwoz.goal import Goal
from josh_pipeline.search.tree import End, Node

ENDS: Mapping[End, str] = {
    "solved": "solved: the last reward was earned here",
    "pruned": "pruned: another branch earned first",
    "user_done": "ended: the user left",
    "failed": "failed",
    "rounds_spent": "ended: the rounds were spent",
    "budget_spent": "ended: the token budget was spent",
}
SHORT_ENDS: Mapping[End, str] = {
    "solved": "solved",
    "pruned": "pruned",
    "user_done": "user left",
    "failed": "failed",
    "rounds_spent": "out of rounds",
    "budget_spent": "out of budget",
}


def shortened(text: str, width: int) -> str:
    """Cut a text to at most ``width`` characters on one line, with an ellipsis where it was cut."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: max(width - 1, 0)].rstrip() + "…"


def sentences(lines: Sequence[str]) -> str:
    """Join instructions, which as a rule lack their full stop, so that each ends as a sentence."""
    return " ".join(line if line.endswith((".", "!", "?")) else f"{line}." for line in lines)


def arguments_text(arguments: Mapping[str, Any]) -> str:
    """Arguments as ``area=north, food=thai``."""
    return ", ".join(f"{key}={value}" for key, value in arguments.items())


def call_text(call: CallRecord) -> str:
    """A call as the agent made it."""
    return f"{call.tool}({arguments_text(call.arguments)})"


def result_text(call: CallRecord) -> str:
    """What a call returned, in a few words."""
    told = call.payload if call.error else call.brief
    if isinstance(told, Mapping):
        told = ", ".join(f"{name} {value}" for name, value in told.items())
    return shortened(str(told), RESULT_WIDTH)


def spoken(node: Node) -> str:
    """What the agent said aloud in a turn; empty where it did not speak."""
    return " ".join(m.content for m in visible(node.messages) if m.role == "assistant")


def answered(node: Node) -> str:
    """The user's answer to a turn, or the opening message of the root; empty where there is none."""
    return " ".join(m.content for m in node.messages if m.role == "user")


def end_text(node: Node) -> str:
    """Why there is no child, as a sentence part; empty for an interior node."""
    if node.end is None:
        return ""
    if node.end == "failed":
        return f"failed ({node.failure}): {node.failure_message}"
    return ENDS[node.end]


def milestone_texts(goal: Goal) -> tuple[str, ...]:
    """Every ground-truth call of a goal in words; the position is the milestone's id."""
    return tuple(f"{call.tool}({arguments_text(call.parameters)})" for call in goal.calls)


def goal_kind(goal: Goal) -> str:
    """``hotel part of MUL0001`` or ``whole goal of MUL0001``."""
    return f"{goal.part} part of {goal.dialogue_id}" if goal.part else f"whole goal of {goal.dialogue_id}"


def percent(share: float, digits: int = 1) -> str:
    """A share in percent, e.g. ``25.3 %``."""
    return f"{100 * share:.{digits}f} %"


def duration(seconds: float) -> str:
    """Seconds for people: ``48 s``, ``3 min 12 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
