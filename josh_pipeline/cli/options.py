"""Options that several commands share, and settings from them."""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from josh_pipeline.core.command import HOME, argument
from josh_pipeline.core.errors import UserError, quoted
from josh_pipeline.core.faults import Place
from josh_pipeline.environments.registry import BUILT_IN, DEFAULT
from josh_pipeline.settings import Settings, profile_names

if TYPE_CHECKING:
    from josh_pipeline.store.home import Home


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return number


def partition(iteration: str | None) -> str | None:
    """Return the partition key of an iteration that was given as a number; anything else as it is."""
    # Imported where it is used: every start of josh reads this module, and the store takes a while.
    from josh_pipeline.stages.stage import written_key

    return iteration and (written_key(iteration) or iteration)


CORPUS = argument("--corpus", metavar="PATH-or-URL", help="where the environment reads from (default: built in)")
ENVIRONMENT = (
    argument(
        "--env",
        metavar="E",
        help=f"{', '.join(BUILT_IN)} (default: {DEFAULT}), path/to/file.py:Class or package.module:Class",
    ),
    CORPUS,
)
SEMANTICS = argument("--semantics", metavar="S", help="how the environment answers and rewards calls")
SETTINGS = (
    argument(
        "--profile",
        metavar="P",
        help=f"{', '.join(profile_names())}, or a YAML file (default: as the last run, else quickstart)",
    ),
    *ENVIRONMENT,
    argument("--seed", type=int, metavar="S", help="seed of the run"),
    argument("--model", metavar="M", help="'smollm2' (bundled), or a Hugging Face causal LM"),
    argument("--endpoint", metavar="URL", help="an OpenAI-compatible server that has the model"),
    argument(
        "--set",
        action="append",
        default=[],
        metavar="SETTING=VALUE",
        help="any setting of docs/settings.md, as YAML, e.g. user.max_turns=16; may be repeated",
    ),
    HOME,
)
"""Of commands that need the settings of a run: see ``settings_of``."""


PLACES: Mapping[str, Place] = {
    "env": ("environment", "name"),
    "corpus": ("environment", "corpus", "source"),
    "seed": ("seed",),
    "model": ("policy", "model"),
    "endpoint": ("policy", "endpoint"),
}
"""Option of ``SETTINGS`` to the setting that it gives."""
LOCAL = (PLACES["corpus"], PLACES["model"])
"""Settings that may be a path."""


def quiet_libraries() -> None:
    """Keep model libraries from drawing bars of their own between ours; to be called before they load."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")


def from_here(value: str) -> str:
    """Return the path of a file or folder that is named from here so that it holds elsewhere; else what was given."""
    path = Path(value).expanduser()
    return str(path.absolute()) if value not in ("sample", "smollm2") and path.exists() else value


def settings_of(home: "Home", options: argparse.Namespace) -> Settings:
    """Lay the options of ``SETTINGS`` over the profile, or over the settings of the home's last run.

    Raises:
        UserError: no such profile, or a faulty setting.
    """
    given: dict[str, Any] = {}
    givers: dict[Place, str] = {}
    options_given = [
        (f"--{name}", place, value) for name, place in PLACES.items() if (value := getattr(options, name)) is not None
    ]
    for giver, place, value in [*options_given, *map(assigned, options.set)]:
        givers[place] = giver
        values: Any = from_here(value) if place in LOCAL and isinstance(value, str) else value
        for name in reversed(place):
            values = {name: values}
        given = together(given, values)
    return home.settings(options.profile or "", given, givers)


def together(given: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """Join what was given in nested values: unlike ``settings.merged`` it drops nothing, in whatever order it came."""
    joined = {
        name: together(given[name], value)
        for name, value in later.items()
        if isinstance(value, dict) and isinstance(given.get(name), dict)
    }
    return given | later | joined


def assigned(text: str) -> tuple[str, Place, Any]:
    """Read ``SETTING=VALUE``; returns what faults call it, the setting's place and the value, which is YAML.

    Raises:
        UserError: it names no setting, or its value is no YAML.
    """
    name, equals, written = text.partition("=")
    place = tuple(name.split("."))
    if not (equals and all(place)):
        raise UserError(f"--set takes a setting and its value, like --set user.max_turns=16, and not {quoted(text)}.")
    try:
        return f"--set {name}", place, yaml.safe_load(written)
    except yaml.YAMLError:
        raise UserError(f"--set {name} has a value that is not valid YAML, {quoted(written)}: quote it.") from None
