"""``josh report``: the HTML report, and the page of the tree that it draws."""

import argparse

from josh_pipeline.report.write import write_report
from josh_pipeline.stages.registry import open_home
from josh_pipeline.stages.step import iteration_key


def command(options: argparse.Namespace) -> int:
    """Write the report and print where it is."""
    iteration = options.iteration
    if iteration is not None and iteration.isdigit():
        iteration = iteration_key(int(iteration))
    home = open_home(options.home)
    print(write_report(home.warehouse(), home.reports, iteration))
    return 0
