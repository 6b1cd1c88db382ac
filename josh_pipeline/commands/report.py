"""``josh report``: the HTML report, and the page of the tree that it draws."""

import argparse
from pathlib import Path

from josh_pipeline.home import Home, open_home
from josh_pipeline.report.html import report_page
from josh_pipeline.report.load import load_report
from josh_pipeline.report.tree_view import tree_page
from josh_pipeline.stages.step import iteration_key

TREES = "trees"
"""Folder of the tree's page, beside the report."""


def command(options: argparse.Namespace) -> int:
    """Write the report and print where it is."""
    iteration = options.iteration
    if iteration is not None and iteration.isdigit():
        iteration = iteration_key(int(iteration))
    print(written_report(open_home(options.home), iteration))
    return 0


def written_report(home: Home, iteration: str | None) -> Path:
    """Write the report up to an iteration (None for the last one) and return its path.

    Raises:
        UserError: nothing has been evaluated, or not that iteration.
    """
    data = load_report(home.warehouse(), iteration, TREES)
    folder = home.reports
    folder.mkdir(exist_ok=True)
    if data.tree is not None:
        (folder / TREES).mkdir(exist_ok=True)
        (folder / TREES / f"{data.tree.tree.rollout_id}.html").write_text(tree_page(data.tree))
    name = f"report-{iteration}.html" if iteration else "report.html"
    path = folder / name
    path.write_text(report_page(data))
    return path
