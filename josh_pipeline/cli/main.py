"""``josh``: the command line."""

import argparse
import atexit
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from josh_pipeline.core.errors import UserError
from josh_pipeline.settings import profile_names

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
        run: Callable[[argparse.Namespace], int] = import_module(
            f"josh_pipeline.cli.{options.module}"
        ).command
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
        prog="josh", description="A tool-calling dialogue agent that teaches itself (JOSH on ToolWOZ)."
    )
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _iterate(commands)
    _goals(commands)
    _replay(commands)
    _solvability(commands)
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
    made.set_defaults(module=module)
    return made


def _home(command: argparse.ArgumentParser) -> None:
    command.add_argument("--home", metavar="DIR", help="where everything is kept ($JOSH_HOME, else ./.josh)")


def _corpus(command: argparse.ArgumentParser, default: str | None) -> None:
    command.add_argument(
        "--corpus",
        metavar="PATH-or-URL",
        default=default,
        help="'sample' (built in), or a folder, zip or URL of MultiWOZ"
        + ("" if default is None else f" (default: {default})"),
    )


def _semantics(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--semantics",
        choices=("audited", "paper"),
        default="audited",
        help="how calls are answered and rewarded (default: audited)",
    )


def _settings(command: argparse.ArgumentParser) -> None:
    _home(command)
    _corpus(command, None)
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


def _goals(commands: Commands) -> None:
    command = _command(
        commands,
        "goals",
        "corpus_commands",
        "print a JSON line for every goal of a corpus",
        "josh goals --corpus MULTIWOZ2.1.zip --split test",
    )
    command.set_defaults(which="goals")
    _home(command)
    _corpus(command, "sample")
    command.add_argument("--split", choices=("train", "val", "test"), help="one of the corpus's own lists")
    _semantics(command)


def _replay(commands: Commands) -> None:
    command = _command(
        commands,
        "replay",
        "corpus_commands",
        "make recorded calls in their worlds and print results and rewards",
        "josh replay calls.jsonl --corpus MULTIWOZ2.1.zip",
    )
    command.set_defaults(which="replay")
    command.add_argument(
        "calls",
        metavar="CALLS.jsonl",
        help='lines {"dialogue_id", "calls": [{"tool", "arguments"}]}; - for stdin',
    )
    _home(command)
    _corpus(command, "sample")
    _semantics(command)


def _solvability(commands: Commands) -> None:
    command = _command(
        commands,
        "solvability",
        "corpus_commands",
        "count what an oracle can solve under both semantics, and what each repair changes",
        "josh solvability --corpus MULTIWOZ2.1.zip --json",
    )
    command.set_defaults(which="solvability")
    _home(command)
    _corpus(command, "sample")
    command.add_argument("--json", action="store_true", help="one JSON object")


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
        "check every link from corpus to adapter, or follow one training row or source",
        "josh audit 001",
    )
    command.add_argument(
        "target",
        nargs="?",
        metavar="ITERATION or ROW",
        help="what one iteration descends from, or the first digits of a training row's id (default: all)",
    )
    command.add_argument(
        "--source", "--dialogue", metavar="ID", help="which adapters and evaluations ever saw a source"
    )
    command.add_argument(
        "--html", metavar="FILE", help="write the page of a training row instead of printing"
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
