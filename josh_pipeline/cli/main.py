"""``josh``: the command line."""

import argparse
import atexit
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from josh_pipeline.core.command import HOME, Command, argument
from josh_pipeline.core.errors import UserError
from josh_pipeline.environments.registry import BUILT_IN, DEFAULT, brought_commands
from josh_pipeline.settings import profile_names

ENVIRONMENT = (
    argument(
        "--env",
        metavar="E",
        help=f"{', '.join(BUILT_IN)} (default: {DEFAULT}), path/to/file.py:Class or package.module:Class",
    ),
    argument("--corpus", metavar="PATH-or-URL", help="where the environment reads from (default: built in)"),
)
SEMANTICS = argument("--semantics", metavar="S", help="how the environment answers and rewards calls")
GOALS = Command(
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
)
REPLAY = Command(
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
        *ENVIRONMENT,
        SEMANTICS,
        HOME,
    ),
)
Commands = Any  # argparse's class of subparsers is private
STDERR = 2
EXAMPLE = "example:\n  "


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0, or 1 after a mistake that the person can mend (argparse exits with 2), or
        130 after Ctrl-C.
    """
    options = parser().parse_args(arguments)
    atexit.register(silence)
    try:
        # Imported by name: each command brings only what it needs, and some need seconds.
        module, _, function = options.run.partition(":")
        run: Callable[[argparse.Namespace], int] = getattr(import_module(module), function)
        status = run(options)
        sys.stdout.flush()
        return status
    except UserError as fault:
        print(f"josh: {fault}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader has had enough (josh goals | head): nothing more can be said, and nothing is wrong.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("josh: stopped; the same command goes on from here.", file=sys.stderr)
        return 130


def silence() -> None:
    """Drop what is printed after this: the first handler to be registered is the last to run.

    With torch loaded, duckdb 2.0.0's bindings list every object of their own as leaked when the
    interpreter ends: forty lines that say nothing of this program.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDERR)


def parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    top = argparse.ArgumentParser(
        prog="josh", description="Tool-calling dialogue agents that teach themselves (JOSH)."
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _iterate(commands)
    for declared in (GOALS, REPLAY, *brought_commands()):
        made = _command(commands, declared.name, declared.run, declared.summary, declared.example)
        for names, how in declared.arguments:
            made.add_argument(*names, **how)
    _evaluate(commands)
    _scores(commands)
    _report(commands)
    _tree(commands)
    _audit(commands)
    _export(commands)
    _gc(commands)
    _ui(commands)
    return top


def _command(
    commands: Commands, name: str, module: str, summary: str, example: str
) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=EXAMPLE + example,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.set_defaults(run=module if ":" in module else f"josh_pipeline.cli.{module}:command")
    return made


def _home(command: argparse.ArgumentParser) -> None:
    command.add_argument("--home", metavar="DIR", help="where everything is kept ($JOSH_HOME, else ./.josh)")


def _settings(command: argparse.ArgumentParser) -> None:
    _home(command)
    for names, how in ENVIRONMENT:
        command.add_argument(*names, **how)
    command.add_argument(
        "--profile",
        metavar="P",
        help=f"{', '.join(profile_names())}, or a YAML file (default: as the last run, else quickstart)",
    )
    command.add_argument("--seed", type=int, metavar="S", help="seed of the run")
    command.add_argument("--model", metavar="M", help="'smollm2' (bundled), or a Hugging Face causal LM")
    command.add_argument("--endpoint", metavar="URL", help="an OpenAI-compatible server that has the model")


def _iterate(commands: Commands) -> None:
    command = _command(
        commands,
        "iterate",
        "iterate",
        "run iterations: search, harvest, train, evaluate, promote",
        "josh iterate --iterations 2 --profile quickstart",
    )
    command.add_argument("--iterations", type=positive, default=1, metavar="N", help="how many (default: 1)")
    _settings(command)
    command.add_argument(
        "--require-promotion", action="store_true", help="exit with 1 where a candidate is not promoted"
    )


def _evaluate(commands: Commands) -> None:
    command = _command(
        commands,
        "evaluate",
        "evaluate",
        "play held-out goals with a policy and print reward, success, intervals and pass^k",
        "josh evaluate --policy latest --goals whole --trials 4",
    )
    command.add_argument(
        "--policy",
        default="latest",
        metavar="P",
        help="'latest' promotion, 'base', an iteration, or the digest of a policy (default: latest)",
    )
    command.add_argument("--role", choices=("train", "val", "test"), default="test", help="(default: test)")
    command.add_argument("--split", choices=("test-450",), help="the paper's 450 test goals, whole")
    command.add_argument("--goals", choices=("parts", "whole"), help="(default: what the profile plays)")
    command.add_argument("--number", type=positive, metavar="N", help="goals at most (default: all)")
    command.add_argument("--trials", type=positive, default=1, metavar="K", help="conversations a goal")
    command.add_argument("--json", action="store_true", help="one JSON object")
    _settings(command)


def _scores(commands: Commands) -> None:
    command = _command(
        commands, "scores", "scores", "print the score of every policy of a home", "josh scores --json"
    )
    command.add_argument("--json", action="store_true", help="a JSON line for each")
    _home(command)


def _report(commands: Commands) -> None:
    command = _command(commands, "report", "report", "write the HTML report", "josh report 002")
    command.add_argument("iteration", nargs="?", metavar="ITERATION", help="the last one to tell of")
    _home(command)


def _tree(commands: Commands) -> None:
    command = _command(
        commands, "tree", "tree", "show one search tree", "josh tree 3f0c9a21 --html tree.html"
    )
    command.add_argument("rollout", metavar="ROLLOUT", help="the first digits of a rollout's id")
    command.add_argument("--html", metavar="FILE", help="write a page instead of printing")
    _home(command)


def _audit(commands: Commands) -> None:
    command = _command(
        commands,
        "audit",
        "audit",
        "check every link from corpus to adapter, or follow one training row or dialogue",
        "josh audit 001",
    )
    command.add_argument(
        "target",
        nargs="?",
        metavar="ITERATION or ROW",
        help="what one iteration descends from, or the first digits of a training row's id (default: all)",
    )
    command.add_argument(
        "--dialogue", metavar="ID", help="which adapters and evaluations ever saw a dialogue"
    )
    command.add_argument(
        "--html", metavar="FILE", help="write the page of a training row instead of printing"
    )
    command.add_argument(
        "--seal", action="store_true", help="seal what an older release left unsealed, if all is sound"
    )
    command.add_argument("--json", action="store_true", help="one JSON object")
    _home(command)


def _export(commands: Commands) -> None:
    command = _command(
        commands,
        "export",
        "export",
        "write tables as Parquet and training rows as JSON lines for TRL, with a manifest",
        "josh export 001 --out rows --format jsonl",
    )
    command.add_argument("iteration", nargs="?", metavar="ITERATION", help="(default: all)")
    command.add_argument("--out", required=True, metavar="FOLDER", help="made where it does not exist")
    command.add_argument("--format", choices=("parquet", "jsonl"), help="(default: both)")
    _home(command)


def _gc(commands: Commands) -> None:
    command = _command(
        commands,
        "gc",
        "gc",
        "remove superseded generations, adapters and checkpoints that nothing kept descends from",
        "josh gc --dry-run",
    )
    command.add_argument("--dry-run", action="store_true", help="only show what would go")
    _home(command)


def _ui(commands: Commands) -> None:
    command = _command(commands, "ui", "ui", "serve Dagster's UI on a home", "josh ui --port 3000")
    command.add_argument("--port", type=int, default=3000, help="(default: 3000)")
    command.add_argument("--host", default="127.0.0.1", help="(default: 127.0.0.1)")
    _home(command)


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return number
