"""``josh tree``: one search tree, in the terminal or as a page."""

import argparse
from pathlib import Path

from rich.console import Console

from josh_pipeline.core.errors import UserError
from josh_pipeline.report.load_tree import load_drawn_tree
from josh_pipeline.report.tree_terminal import tree_text
from josh_pipeline.report.tree_view import tree_page
from josh_pipeline.stages.registry import open_home


def command(options: argparse.Namespace) -> int:
    """Show the tree."""
    drawn = load_drawn_tree(open_home(options.home).warehouse(), options.rollout)
    if options.html is None:
        Console().print(tree_text(drawn))
        return 0
    try:
        Path(options.html).write_text(tree_page(drawn))
    except OSError as fault:
        raise UserError(f"{options.html} cannot be written ({fault.strerror}): give another file.") from None
    print(options.html)
    return 0
