"""The score table: on the terminal, and as JSON lines for programs."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from josh_pipeline.report.data import PolicyScore
from josh_pipeline.report.words import percent


def score_record(score: PolicyScore) -> dict[str, Any]:
    """One line of ``josh scores --json``."""
    return {
        "iteration": score.iteration,
        "policy": score.policy,
        "corpus": score.corpus,
        "goals": score.goals,
        "n": score.n,
        "reward": score.reward,
        "success": score.success,
        "low": score.low,
        "high": score.high,
        "promoted": score.promoted,
        "name": score.name,
        "attempt": score.attempt,
        "role": score.role,
        "trees": score.trees,
        "full_trees": score.full_trees,
        "rows": score.rows,
    }


PROMOTED = {True: "yes", False: "no", None: ""}
"""Empty for what was never held against another policy."""


def rate_text(score: PolicyScore) -> str:
    """Success rate with its interval, in percent."""
    return f"{percent(score.success)} [{100 * score.low:.1f}, {100 * score.high:.1f}]"


def score_table(scores: Sequence[PolicyScore]) -> Table:
    """Render scores for the terminal; parts and whole goals are never on one line."""
    corpora = sorted({score.corpus for score in scores})
    table = Table(
        title=f"Scores on {', '.join(corpora)}" if corpora else "No scores yet",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
    )
    # Headings wrap so that the whole table fits a terminal of 80 columns.
    for heading in ("policy", "goals"):
        table.add_column(heading)
    for heading in ("n", "mean\nreward", "success,\n95 % interval", "trees", "full\nreward", "rows"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("pro-\nmoted", no_wrap=True)
    for score in scores:
        table.add_row(
            Text(score.name, style="bold"),
            score.goals if score.role == "test" else f"{score.goals}, {score.role}",
            str(score.n),
            f"{score.reward:.3f}",
            rate_text(score),
            *("" if value is None else str(value) for value in (score.trees, score.full_trees, score.rows)),
            Text(PROMOTED[score.promoted], style="green" if score.promoted else "red"),
        )
    if any(score.goals == "parts" for score in scores):
        table.caption = "Parts are one domain's share of a goal: not ToolWOZ scores."
        table.caption_justify = "left"
    return table
