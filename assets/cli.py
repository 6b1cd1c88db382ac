"""``josh``: the library's commands, and those that need Dagster."""

import sys

from josh_pipeline.cli.main import Commands, add_command, add_home, main, positive
from josh_pipeline.cli.options import add_settings


def add_iterate(commands: Commands) -> None:
    """Add ``josh iterate``."""
    command = add_command(
        commands,
        "iterate",
        "assets.iterate",
        "run iterations: search, harvest, train, evaluate, promote",
        "josh iterate --iterations 2 --profile quickstart",
    )
    command.add_argument("--iterations", type=positive, default=1, metavar="N", help="how many (default: 1)")
    add_settings(command)
    command.add_argument(
        "--require-promotion", action="store_true", help="exit with 1 where a candidate is not promoted"
    )


def add_ui(commands: Commands) -> None:
    """Add ``josh ui``."""
    command = add_command(commands, "ui", "assets.ui", "serve Dagster's UI on a home", "josh ui --port 3000")
    command.add_argument("--port", type=int, default=3000, help="(default: 3000)")
    command.add_argument("--host", default="127.0.0.1", help="(default: 127.0.0.1)")
    add_home(command)


def run() -> int:
    """Run one command of all."""
    return main(extra=(add_iterate, add_ui))


if __name__ == "__main__":
    sys.exit(run())
