"""``josh failures``: what each lost goal missed first, and why."""

import argparse
import json
from collections import Counter
from dataclasses import asdict

from rich import box
from rich.console import Console
from rich.table import Table

from josh_pipeline.cli.options import partition
from josh_pipeline.evaluation.failures import by_ending, counted
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
    """Draw what was missed and why, and how the conversations ended."""
    endings = by_ending(lost.failures)
    drawn = Table(
        title=f"{lost.policy}: {len(lost.failures)} of {lost.n} goals lost, {lost.role}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=0,
    )
    for heading in ("missed first", "why"):
        drawn.add_column(heading)
    for heading in ("goals", *(ended.removeprefix("the ").replace(" ", "\n", 1) for ended in endings)):
        drawn.add_column(heading, justify="right")
    for (tool, why), number in counted(lost.failures).items():
        ended = Counter(one.ended for one in lost.failures if (one.tool, one.why) == (tool, why))
        drawn.add_row(tool, why, str(number), *(str(ended[name] or "") for name in endings))
    drawn.add_section()
    drawn.add_row("all", "", str(len(lost.failures)), *map(str, endings.values()))
    return drawn
