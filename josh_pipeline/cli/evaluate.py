"""``josh evaluate``: one policy on held-out goals."""

import argparse
import json
import uuid
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from josh_pipeline.cli.options import quiet_libraries, settings_of
from josh_pipeline.core.locks import at_work
from josh_pipeline.core.progress import TerminalProgress
from josh_pipeline.stages.benchmark import Benchmark, Selection, benchmark
from josh_pipeline.stages.cold_start import make_base
from josh_pipeline.stages.corpus import store_corpus
from josh_pipeline.stages.goals import GoalKind, store_goals
from josh_pipeline.stages.registry import open_home
from josh_pipeline.stages.state import missing_preparation
from josh_pipeline.stages.step import Step, start_step


def command(options: argparse.Namespace) -> int:
    """Evaluate and print."""
    quiet_libraries()
    home = open_home(options.home)
    settings = settings_of(home, options)
    selection: Selection = options.split or options.role
    kind: GoalKind = "part" if settings.goals.parts else "whole"
    if options.goals is not None:
        kind = "part" if options.goals == "parts" else "whole"
    elif options.split is not None:
        kind = "whole"
    with at_work(home.root), TerminalProgress() as progress:
        step = start_step(home, settings, f"evaluate-{uuid.uuid4()}", progress)
        prepare(step)
        found = benchmark(step, options.policy, selection, kind, options.trials, options.number)
    if options.json:
        print(json.dumps(record(found)))
    else:
        Console().print(shown(found))
    return 0


def prepare(step: Step) -> None:
    """Write what the settings need and the store lacks."""
    steps = {"multiwoz_dialogues": store_corpus, "toolwoz_goals": store_goals, "cold_start": make_base}
    for asset in missing_preparation(step):
        steps[asset](step)


def record(found: Benchmark) -> dict[str, object]:
    """Return a benchmark as ``josh evaluate --json`` prints it."""
    about = {
        "iteration": found.iteration or None,
        "corpus": found.corpus,
        "goals": "parts" if found.kind == "part" else "whole",
        "selection": found.selection,
    }
    ceiling = {"user_ceiling": found.ceiling.share if found.ceiling else None}
    return about | asdict(found.score) | ceiling


def shown(found: Benchmark) -> Table:
    """Draw a benchmark as a table."""
    one = found.score
    goals = "parts (not ToolWOZ scores)" if found.kind == "part" else "whole goals"
    table = Table(title=f"{one.policy} on {found.corpus}", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("goals", f"{one.n} {goals}, {found.selection}")
    table.add_row("conversations a goal", str(one.trials))
    table.add_row("mean reward", f"{one.reward:.3f}")
    table.add_row("success rate", f"{100 * one.success:.1f} % [{100 * one.low:.1f}, {100 * one.high:.1f}]")
    if found.ceiling is not None:
        table.add_row("user ceiling: a perfect agent reaches", f"{100 * found.ceiling.share:.1f} %")
    for k, share in enumerate(one.pass_k[1:], start=2):
        table.add_row(f"pass^{k}", f"{100 * share:.1f} %")
    for part in (*one.by_domain, *one.by_act):
        table.add_row(f"success, {part.name} (n={part.n})", f"{100 * part.success:.1f} %")
    for error, number in list(one.errors.items())[:5]:
        table.add_row(error, str(number))
    table.add_row("agent turns a conversation", f"{one.turns:.1f}")
    table.add_row("turns without an answer", f"{100 * one.error_turns:.1f} %")
    table.add_row(f"calls refused with an error, of {one.calls}", f"{100 * one.faulty_calls:.1f} %")
    for fault, number in one.faults.items():
        table.add_row(f"  {fault}", str(number))
    usage = one.usage
    table.add_row("requests", f"{usage.requests:,}")
    table.add_row("prompt tokens, of them cached", f"{usage.prompt_tokens:,}, {usage.cached_tokens:,}")
    table.add_row("sampled tokens", f"{usage.completion_tokens:,}")
    if usage.user_requests:
        table.add_row(
            "tokens of the user's model", f"{usage.user_prompt_tokens + usage.user_completion_tokens:,}"
        )
    if usage.cost:
        table.add_row("cost", f"{usage.cost:.2f}")
    return table
