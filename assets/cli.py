"""``josh``: the library's commands, and those that need Dagster."""

import sys
from collections.abc import Sequence

from josh_pipeline.cli.main import main
from josh_pipeline.cli.options import SETTINGS, positive
from josh_pipeline.core.command import HOME, Command, argument

COMMANDS = (
    Command(
        "iterate",
        "assets.iterate:command",
        "run iterations: search, harvest, train, evaluate, promote",
        "josh iterate --iterations 2 --profile quickstart",
        (
            argument("--iterations", type=positive, default=1, metavar="N", help="how many (default: 1)"),
            *SETTINGS,
            argument("--require-promotion", action="store_true", help="exit with 1 where a candidate is not promoted"),
        ),
    ),
    Command(
        "ui",
        "assets.ui:command",
        "serve Dagster's UI on a home",
        "josh ui --port 3000",
        (
            argument("--port", type=int, default=3000, help="(default: 3000)"),
            argument("--host", default="127.0.0.1", help="(default: 127.0.0.1)"),
            HOME,
        ),
    ),
)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command of all; see ``josh_pipeline.cli.main``."""
    return main(arguments, COMMANDS)


if __name__ == "__main__":
    sys.exit(run())
