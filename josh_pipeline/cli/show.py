"""``josh scores``, ``josh report`` and ``josh tree``: what a home holds, to look at."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from josh_pipeline.cli.options import partition
from josh_pipeline.report.data import PolicyScore
from josh_pipeline.report.lines import all_lines
from josh_pipeline.report.load import standing_ceiling
from josh_pipeline.report.load_scores import home_scores
from josh_pipeline.report.pages import write_page
from josh_pipeline.report.tree import load_drawn_tree
from josh_pipeline.report.viewer import tree_page, tree_text
from josh_pipeline.report.words import ONE_RUN, percent, rate_text
from josh_pipeline.stages.registry import read_home
from josh_pipeline.stages.unused import unused
from josh_pipeline.store.home import Home

PROMOTED = {True: "yes", False: "no", None: ""}
"""Empty for what was never held against another policy."""


def scores(options: argparse.Namespace) -> int:
    """Print the scores as a table or as JSON lines."""
    home = read_home(options.home)
    if not options.json:
        print_scores(home)
        return 0
    for score in home_scores(home.warehouse()):
        print(json.dumps(score_record(score)))
    return 0


def report(options: argparse.Namespace) -> int:
    """Write the report and print where it is."""
    # Imported where it is used: figures take half a second, and the other commands draw none.
    from josh_pipeline.report.html import write_report

    home = read_home(options.home)
    print(write_report(home.warehouse(), home.reports, partition(options.iteration)))
    return 0


def tree(options: argparse.Namespace) -> int:
    """Show one search tree, in the terminal or as a page."""
    drawn = load_drawn_tree(read_home(options.home).warehouse(), options.rollout)
    if options.html is None:
        Console().print(tree_text(drawn))
    else:
        write_page(Path(options.html), tree_page(drawn))
        print(options.html)
    return 0


def print_scores(home: Home) -> None:
    """Print the table, and what any score on these goals could reach at most.

    Raises:
        UserError: nothing has been evaluated.
    """
    console = Console()
    ceiling, unread = standing_ceiling(home.warehouse())
    console.print(score_table(home_scores(home.warehouse())))
    if unread is not None:
        console.print(f"The user ceiling is not known. {unread}", highlight=False, markup=False)
    if ceiling is not None:
        reached = f"{percent(ceiling.share)} of these {ceiling.n} goals"
        console.print(f"User ceiling: a perfect agent reaches {reached}.")
    for line in all_lines(home.warehouse()):
        for sentence in (one for row in line.rounds for one in unused(home.warehouse(), row.iteration)):
            console.print(sentence, highlight=False, markup=False, soft_wrap=True)


def score_record(score: PolicyScore) -> dict[str, Any]:
    """One line of ``josh scores --json``."""
    found = asdict(score.score)
    names = ("name", "attempt", "role", "trees", "full_trees", "rows")
    return {
        "iteration": score.iteration,
        "policy": found["policy"],
        "corpus": score.corpus,
        "goals": score.goals.short,
        **{name: found[name] for name in ("n", "reward", "success", "low", "high")},
        "promoted": score.promoted,
        **{name: getattr(score, name) for name in names},
    }


def score_table(scores: Sequence[PolicyScore]) -> Table:
    """Render scores for the terminal; kinds of goals are never on one line.

    Args:
        scores: first those of the kind that is played.
    """
    corpora = sorted({score.corpus for score in scores})
    kinds = {score.goals.name: score.goals for score in scores}
    notes = [*(told for kind in kinds.values() for told in kind.told), ONE_RUN]
    published = bool(scores and scores[0].goals.score)
    table = Table(
        title=f"Scores on {', '.join(corpora)}" if corpora else "No scores yet",
        title_justify="left",
        caption="\n".join(notes),
        caption_justify="left",
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
        taken = (score.trees, score.full_trees, score.rows)
        table.add_row(
            Text(score.name, style="bold"),
            score.goals.short if score.role == "test" else f"{score.goals.short}, {score.role}",
            str(score.score.n),
            f"{score.score.reward:.3f}",
            rate_text(score.score),
            *("" if value is None else str(value) for value in taken),
            Text(PROMOTED[score.promoted], style="green" if score.promoted else "red"),
            style="dim" if published and not score.goals.score else "",
        )
    return table
