"""``josh evaluate``: one policy on held-out goals."""

import argparse
import json
import uuid
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from josh_pipeline.cli.options import quiet_libraries, settings_of
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.locks import at_work
from josh_pipeline.core.progress import TerminalProgress
from josh_pipeline.environments.registry import environment_class
from josh_pipeline.evaluation.playing import require_endpoints
from josh_pipeline.report.words import GoalKind, goal_kind, percent, rate_text
from josh_pipeline.stages.benchmark import Benchmark, benchmark
from josh_pipeline.stages.registry import open_home, prepare
from josh_pipeline.stages.stage import start_step


def evaluate(options: argparse.Namespace) -> int:
    """Play the goals and print what came of it."""
    quiet_libraries()
    home = open_home(options.home)
    settings = settings_of(home, options)
    require_endpoints(settings)
    environment = environment_class(settings.environment.name)
    plurals = {plural: kind for kind, plural in environment.kinds.items()}
    kind = plurals.get(options.goals, options.goals)
    if options.split and options.role:
        raise UserError("--split is a selection of its own: leave --role out.")
    selection = options.split or options.role or "test"
    with at_work(home.root), TerminalProgress() as progress:
        step = start_step(home, settings, f"evaluate-{uuid.uuid4()}", progress)
        prepare(step)
        found = benchmark(step, options.policy, selection, kind, options.trials, options.number)
    goals = goal_kind(found.kind, environment)
    if options.json:
        print(json.dumps(record(found, goals) | step.noted))
    else:
        Console().print(table(found, goals))
    return 0


def record(found: Benchmark, goals: GoalKind) -> dict[str, object]:
    """Return a benchmark as ``josh evaluate --json`` prints it."""
    return {
        "iteration": found.iteration or None,
        "corpus": found.corpus,
        "goals": goals.short,
        "selection": found.selection,
        **asdict(found.score),
        "user_ceiling": found.ceiling.share if found.ceiling else None,
    }


def table(found: Benchmark, goals: GoalKind) -> Table:
    """Draw a benchmark as a table."""
    one, usage = found.score, found.score.usage
    shown = [
        ("goals", f"{one.n} {goals.plural}, {found.selection}"),
        ("conversations a goal", str(one.trials)),
        ("mean reward", f"{one.reward:.3f}"),
        ("success rate", rate_text(one)),
    ]
    if found.ceiling is not None:
        shown.append(("user ceiling: a perfect agent reaches", percent(found.ceiling.share)))
    shown += [(f"pass^{k}", percent(share)) for k, share in enumerate(one.pass_k[1:], start=2)]
    shown += [
        (f"success, {share.name} (n={share.n})", percent(share.success))
        for group, shares in one.by.items()
        if group != "tool"
        for share in shares
    ]
    shown += [(error, str(number)) for error, number in list(one.errors.items())[:5]]
    shown += [
        ("agent turns a conversation", f"{one.turns:.1f}"),
        ("turns without an answer", percent(one.error_turns)),
        (f"calls refused with an error, of {one.calls}", percent(one.faulty_calls)),
        *((f"  {fault}", str(number)) for fault, number in one.faults.items()),
        ("requests", f"{usage.requests:,}"),
        ("prompt tokens, of them cached", f"{usage.prompt_tokens:,}, {usage.cached_tokens:,}"),
        ("sampled tokens", f"{usage.completion_tokens:,}"),
    ]
    if usage.user_requests:
        tokens = usage.user_prompt_tokens + usage.user_completion_tokens
        shown.append(("tokens of the user's model", f"{tokens:,}"))
    if usage.cost:
        shown.append(("cost", f"{usage.cost:.2f}"))
    drawn = Table(
        title=f"{one.policy} on {found.corpus}", title_justify="left", show_header=False,
        caption="\n".join(goals.told) or None, caption_justify="left",
    )  # fmt: skip
    drawn.add_column()
    drawn.add_column(justify="right")
    for row in shown:
        drawn.add_row(*row)
    return drawn
