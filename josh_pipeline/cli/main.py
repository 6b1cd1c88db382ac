"""``josh``: what the commands are, and how one of them is run."""

import argparse
import atexit
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version

from josh_pipeline.cli.options import CORPUS, ENVIRONMENT, SEMANTICS, SETTINGS, positive
from josh_pipeline.core.command import HOME, JSON, Command, argument
from josh_pipeline.core.errors import UserError, machine_fault
from josh_pipeline.environments.registry import brought_commands

STDERR = 2


COMMANDS = (
    Command(
        "goals",
        "josh_pipeline.cli.environment:goals",
        "print a JSON line for every goal of an environment",
        "josh goals --corpus MULTIWOZ2.1.zip --split test",
        (
            *ENVIRONMENT,
            argument("--split", metavar="NAME", help="one of the lists of the source, e.g. test"),
            SEMANTICS,
            HOME,
        ),
    ),
    Command(
        "replay",
        "josh_pipeline.cli.environment:replay",
        "make recorded calls in their worlds and print results and rewards",
        "josh replay calls.jsonl --corpus MULTIWOZ2.1.zip",
        (
            argument(
                "calls",
                metavar="CALLS.jsonl",
                help='lines {"source_id" or "dialogue_id", "calls": [{"tool", "arguments"}]}; - for stdin',
            ),
            argument("--strict", action="store_true", help="exit with 1 where a line cannot be replayed"),
            *ENVIRONMENT,
            SEMANTICS,
            HOME,
        ),
    ),
    Command(
        "check-env",
        "josh_pipeline.cli.environment:check_env",
        "play, fork and question the worlds of an environment, and say which of its promises hold",
        "josh check-env path/to/file.py:Class",
        (
            argument("env", metavar="E", help="as --env of the other commands: a name, or a class and where it is"),
            argument("--number", type=positive, default=12, metavar="N", help="tasks at most (default: 12)"),
            JSON,
            CORPUS,
            SEMANTICS,
            HOME,
        ),
    ),
    *brought_commands(),
    Command(
        "evaluate",
        "josh_pipeline.cli.evaluate:evaluate",
        "play held-out goals with a policy and print reward, success, intervals and pass^k",
        "josh evaluate --policy latest --role test --trials 4",
        (
            argument(
                "--policy",
                default="latest",
                metavar="P",
                help="'latest' promotion, 'base', an iteration, or the digest of a policy (default: latest)",
            ),
            argument("--role", choices=("train", "val", "test"), help="(default: test)"),
            argument("--split", metavar="NAME", help="instead, a published selection of goals, e.g. test-450"),
            argument("--goals", metavar="KIND", help="a kind of goals (default: what the profile plays)"),
            argument("--number", type=positive, metavar="N", help="goals at most (default: all)"),
            argument("--trials", type=positive, default=1, metavar="K", help="conversations a goal"),
            JSON,
            *SETTINGS,
        ),
    ),
    Command(
        "scores",
        "josh_pipeline.cli.show:scores",
        "print the score of every policy of a home",
        "josh scores --json",
        (argument("--json", action="store_true", help="a JSON line for each"), HOME),
    ),
    Command(
        "report",
        "josh_pipeline.cli.show:report",
        "write the HTML report",
        "josh report 002",
        (argument("iteration", nargs="?", metavar="ITERATION", help="the last one to tell of"), HOME),
    ),
    Command(
        "tree",
        "josh_pipeline.cli.show:tree",
        "show one search tree",
        "josh tree 3f0c9a21 --html tree.html",
        (
            argument("rollout", metavar="ROLLOUT", help="the first digits of a rollout's id"),
            argument("--html", metavar="FILE", help="write a page instead of printing"),
            HOME,
        ),
    ),
    Command(
        "failures",
        "josh_pipeline.cli.failures:failures",
        "print what each goal that an iteration lost missed first, and why",
        "josh failures 001",
        (
            argument("iteration", metavar="ITERATION", help="whose candidate, as it was evaluated"),
            argument("--role", choices=("val", "test"), default="test", help="(default: test)"),
            argument("--json", action="store_true", help="a JSON line for each goal"),
            HOME,
        ),
    ),
    Command(
        "audit",
        "josh_pipeline.cli.home:audit",
        "check every link from corpus to adapter, or follow one training row or source",
        "josh audit 001",
        (
            argument(
                "target",
                nargs="?",
                metavar="ITERATION or ROW",
                help="what an iteration of the home descends from, else the first digits of a row's id (default: all)",
            ),
            argument(
                "--source",
                "--dialogue",
                metavar="ID",
                help="which adapters and evaluations ever saw a source, e.g. a dialogue",
            ),
            argument("--html", metavar="FILE", help="write the page of a training row instead of printing"),
            JSON,
            HOME,
        ),
    ),
    Command(
        "export",
        "josh_pipeline.cli.home:export",
        "write tables as Parquet and training rows as JSON lines for TRL, with a manifest; or a policy's model",
        "josh export 001 --out rows --format jsonl\n  josh export --model --out model",
        (
            argument("iteration", nargs="?", metavar="ITERATION", help="(default: all)"),
            argument("--out", required=True, metavar="FOLDER", help="made where it does not exist"),
            argument("--format", choices=("parquet", "jsonl"), help="(default: both)"),
            argument(
                "--model",
                nargs="?",
                const="latest",
                metavar="POLICY",
                help="a model folder for transformers and vLLM instead: of an iteration, or of the digest of a "
                "policy (default: the newest promoted one); --out is new or empty",
            ),
            HOME,
        ),
    ),
    Command(
        "gc",
        "josh_pipeline.cli.home:gc",
        "remove superseded generations, adapters and checkpoints that nothing kept descends from",
        "josh gc --dry-run",
        (argument("--dry-run", action="store_true", help="only show what would go"), HOME),
    ),
)
"""The library's own, and what environments bring; what runs on Dagster brings more."""


def main(arguments: Sequence[str] | None = None, extra: Sequence[Command] = ()) -> int:
    """Run one command.

    Args:
        arguments: of the command line; None for this process's.
        extra: commands of other layers.

    Returns:
        The exit status: 0, or 1 after a mistake that the person can mend (argparse exits with 2), or
        130 after Ctrl-C.
    """
    options, unknown = parser(extra).parse_known_args(arguments)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    atexit.register(silence)
    try:
        module, _, function = options.run.partition(":")
        run: Callable[[argparse.Namespace], int] = getattr(import_module(module), function)
        status = run(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader has had enough (josh goals | head): nothing more can be said, and nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("josh: stopped; the same command goes on from here.", file=sys.stderr)
        return 130
    except Exception as fault:
        sentence = str(fault) if isinstance(fault, UserError) else machine_fault(fault)
        if sentence is None:
            raise
        print(f"josh: {sentence}", file=sys.stderr)
        return 1


def silence() -> None:
    """Drop what is printed after this: the first handler to be registered is the last to run.

    With torch loaded, duckdb 2.0.0's bindings list every object of their own as leaked when the
    interpreter ends: forty lines that say nothing of this program.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDERR)


def parser(extra: Sequence[Command] = ()) -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    top = argparse.ArgumentParser(prog="josh", description="Tool-calling agents that teach themselves (JOSH).")
    top.add_argument("--version", action="version", version=f"josh {version('josh-pipeline')}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (*extra, *COMMANDS):
        made = commands.add_parser(
            command.name,
            help=command.summary,
            description=command.summary[0].upper() + command.summary[1:] + ".",
            epilog=f"example:\n  {command.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(run=command.run, parser=made)  # whose usage says what the command does take
        for names, how in command.arguments:
            made.add_argument(*names, **how)
    return top
