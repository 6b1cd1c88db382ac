"""A command of ``josh``, declared: its parser is built from this, its code imported when it is asked for."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Argument = tuple[tuple[str, ...], Mapping[str, Any]]
"""Names of an argument, and what else ``add_argument`` takes."""


def argument(*names: str, **how: Any) -> Argument:
    """Describe an argument of a command, in the terms of argparse."""
    return names, how


@dataclass(frozen=True)
class Command:
    """A command of ``josh``.

    Attributes:
        name: what is typed.
        run: ``module:function`` that takes the options and returns the exit status.
        summary: what it does, in the imperative.
        example: a whole line.
        arguments: in the order of the help.
    """

    name: str
    run: str
    summary: str
    example: str
    arguments: tuple[Argument, ...]


HOME = argument("--home", metavar="DIR", help="where everything is kept ($JOSH_HOME, else ./.josh)")
JSON = argument("--json", action="store_true", help="one JSON object")


def home_root(path: str | Path | None) -> Path:
    """Return the folder of a home, which need not exist: the one given, ``$JOSH_HOME``, else ``./.josh``."""
    return Path(path or os.environ.get("JOSH_HOME") or ".josh").expanduser().absolute()


def cache_of(path: str | Path | None) -> Path:
    """Return where a home keeps downloads; it need not exist."""
    return home_root(path) / "cache"
