"""``josh scores``: a line for every policy of a home."""

import argparse
import json

from rich.console import Console

from josh_pipeline.report.load import standing_ceiling
from josh_pipeline.report.load_scores import home_scores
from josh_pipeline.report.scores import score_record, score_table
from josh_pipeline.stages.registry import open_home
from josh_pipeline.store.home import Home


def command(options: argparse.Namespace) -> int:
    """Print the scores as a table or as JSON lines."""
    home = open_home(options.home)
    if options.json:
        for score in home_scores(home.warehouse()):
            print(json.dumps(score_record(score)))
        return 0
    print_scores(home)
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
        console.print(
            f"User ceiling: a perfect agent reaches {100 * ceiling.success:.1f} % of these {ceiling.n} goals."
        )
