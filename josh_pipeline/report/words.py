"""Goals, search trees and numbers in words."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from josh_pipeline.core.environment import Environment, Task
from josh_pipeline.core.messages import visible
from josh_pipeline.core.world import CallRecord
from josh_pipeline.evaluation.summary import Score
from josh_pipeline.search.tree import End, Node

ENDS: Mapping[End, tuple[str, str]] = {
    "solved": ("solved", "solved: the last reward was earned here"),
    "pruned": ("pruned", "pruned: another branch earned first"),
    "merged": ("merged", "merged: its elder sibling said the same"),
    "void": ("void", "ended: nothing could be earned any more"),
    "user_done": ("user left", "ended: the user left"),
    "failed": ("failed", "failed"),
    "rounds_spent": ("out of rounds", "ended: the rounds were spent"),
    "budget_spent": ("out of budget", "ended: the token budget was spent"),
}
"""Why a branch ends: in a word or two, and as a part of a sentence."""
RESULT_WIDTH = 200
ONE_RUN = (
    "Intervals are over the goals of one run. Runs differ too: four of the quickstart with one seed ended up to 10.0 "
    "points apart (EXPERIMENTS.md)."
)
"""How much a table of scores tells; a test holds it to what EXPERIMENTS.md measured."""


@dataclass(frozen=True)
class GoalKind:
    """A kind of goals; scores of different kinds never stand on one line.

    Attributes:
        name: as the environment names it.
        plural: what people call several of them, e.g. ``whole goals``.
        note: what a reader of their scores has to know; empty where there is nothing.
        score: the name under which success on them is published; empty where it has none.
    """

    name: str
    plural: str
    note: str = ""
    score: str = ""

    @property
    def explained(self) -> str:
        """What the published name stands for, as a sentence; empty where there is none."""
        return f"The {self.score} is the success rate on {self.plural}." if self.score else ""

    @property
    def told(self) -> tuple[str, ...]:
        """What stands below a table of their scores, a sentence or two each."""
        return tuple(filter(None, (self.explained, self.note)))

    @property
    def short(self) -> str:
        """The plural under a heading that says ``goals`` already."""
        return self.plural.removesuffix(" goals")


def goal_kind(name: str, environment: type[Environment[Any]] | None) -> GoalKind:
    """Describe a kind of goals by its environment; by its own name where that is not known."""
    if environment is None:
        return GoalKind(name, name)
    found = environment.kinds.get(name, name), environment.notes.get(name, ""), environment.scores.get(name, "")
    return GoalKind(name, *found)


def shortened(text: str, width: int) -> str:
    """Cut a text to at most ``width`` characters on one line, with an ellipsis where it was cut."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: max(width - 1, 0)].rstrip() + "…"


def sentences(lines: Sequence[str]) -> str:
    """Join instructions, which as a rule lack their full stop, so that each ends as a sentence."""
    return " ".join(line if line.endswith((".", "!", "?")) else f"{line}." for line in lines)


def call_text(tool: str, arguments: Mapping[str, Any]) -> str:
    """A call as ``search(area=north, food=thai)``."""
    return f"{tool}({', '.join(f'{name}={value}' for name, value in arguments.items())})"


def result_text(call: CallRecord) -> str:
    """What a call returned, in a few words."""
    said = call.payload if call.error else call.brief
    if isinstance(said, Mapping):
        said = ", ".join(f"{name} {value}" for name, value in said.items())
    return shortened(str(said), RESULT_WIDTH)


def spoken(node: Node) -> str:
    """What the agent said aloud in a turn; empty where it did not speak."""
    return " ".join(m.content for m in visible(node.messages) if m.role == "assistant")


def user_words(node: Node) -> str:
    """The user's answer to a turn, or the opening message of the root; empty where there is none."""
    return " ".join(m.content for m in node.messages if m.role == "user")


def end_text(node: Node) -> str:
    """Why there is no child, as a sentence part; empty for an interior node."""
    if node.end == "failed":
        return f"failed ({node.failure}): {node.failure_message}"
    return "" if node.end is None else ENDS[node.end][1]


def short_end(node: Node) -> str:
    """Why there is no child, in a few words; empty for an interior node."""
    if node.end is None:
        return ""
    return ENDS[node.end][0] + (f": {node.failure}" if node.failure else "")


def ends_text(ends: Counter[End]) -> str:
    """How many leaves ended why, e.g. ``12 user left, 3 pruned``."""
    return counts_text(Counter({ENDS[end][0]: n for end, n in ends.items()}))


def counts_text(counts: Counter[str]) -> str:
    """Counts in a line, the most frequent first, e.g. ``12 booking, 3 search``."""
    return ", ".join(f"{n} {name}" for name, n in counts.most_common()) or "–"


def milestone_texts(goal: Task) -> tuple[str, ...]:
    """Every wanted call of a goal in words; the position is the milestone's id."""
    return tuple(call_text(call.tool, call.parameters) for call in goal.calls)


def percent(share: float, digits: int = 1) -> str:
    """A share in percent, e.g. ``25.3 %``."""
    return f"{100 * share:.{digits}f} %"


def rate_text(score: Score) -> str:
    """A success rate with its interval, in percent."""
    return f"{percent(score.success)} [{100 * score.low:.1f}, {100 * score.high:.1f}]"


def nats(drift: float, digits: int = 2) -> str:
    """A drift in nats a token; a model that diverged has none."""
    return f"{drift:.{digits}f}" if isfinite(drift) else "diverged"
