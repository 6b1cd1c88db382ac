"""``josh failures``: what each lost goal missed first, and why."""

import argparse
import json
from dataclasses import asdict

from rich import box
from rich.console import Console
from rich.table import Table

from josh_pipeline.cli.options import partition
from josh_pipeline.evaluation.failures import counted
from josh_pipeline.report.data import LostGoals
from josh_pipeline.report.lines import line_of_iteration
from josh_pipeline.report.load_failures import lost_goals
from josh_pipeline.stages.registry import read_home
from josh_pipeline.stages.stage import recorded_run, recorded_settings


def failures(options: argparse.Namespace) -> int:
    """Print a table of counts, or a JSON line for every lost goal."""
    warehouse = read_home(options.home).warehouse()
    line = line_of_iteration(warehouse, partition(options.iteration))
    attempt = line.standing[-1]
    settings = recorded_settings(recorded_run(warehouse, "evaluation", attempt.policy.iteration))
    lost = lost_goals(warehouse, line, attempt, settings, options.role)
    if options.json:
        for one in lost.failures:
            print(json.dumps(asdict(one)))
    else:
        Console().print(table(lost))
    return 0


def table(lost: LostGoals) -> Table:
    """Draw what was missed, and why."""
    drawn = Table(
        title=f"{lost.policy}: {len(lost.failures)} of {lost.n} goals lost, {lost.role}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
    )
    for heading in ("missed first", "why"):
        drawn.add_column(heading)
    drawn.add_column("goals", justify="right")
    for (tool, why), number in counted(lost.failures).items():
        drawn.add_row(tool, why, str(number))
    return drawn
