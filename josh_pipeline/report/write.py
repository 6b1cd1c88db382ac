"""A report as files: the report itself, and the page of the tree that it shows."""

import os
from pathlib import Path

from josh_pipeline.core.errors import UserError
from josh_pipeline.report.html import report_page
from josh_pipeline.report.load import load_report
from josh_pipeline.report.tree_view import tree_page
from josh_pipeline.store.warehouse import Warehouse

TREES = "trees"
"""The folder of the trees' pages, beside the report."""


def write_report(warehouse: Warehouse, folder: Path, iteration: str | None = None) -> Path:
    """Write the report of a line of iterations, up to one of them.

    Args:
        folder: where it is put; made where it does not exist.
        iteration: partition key, which goes into the file's name: ``report-<iteration>.html``; None for
            the last one that was evaluated: ``report.html``.

    Returns:
        The report's path.

    Raises:
        UserError: nothing has been evaluated, not that iteration, or the folder cannot be written to.
    """
    data = load_report(warehouse, iteration, TREES)
    report = folder / (f"report-{iteration}.html" if iteration else "report.html")
    pages = {report: report_page(data)}
    if data.tree is not None:
        pages[folder / TREES / f"{data.tree.tree.rollout_id}.html"] = tree_page(data.tree)
    for path, text in pages.items():
        write_page(path, text)
    return report


def write_page(path: Path, text: str) -> None:
    """Put a page into its place whole, so that nobody opens half of one.

    Raises:
        UserError: the folder cannot be written to.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as fault:
        raise UserError(f"{path} cannot be written ({fault.strerror}): give another place.") from None
