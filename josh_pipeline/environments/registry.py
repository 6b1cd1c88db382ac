"""Environments by name: those that come with the package, those that other packages bring, and one's own."""

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from josh_pipeline.core.command import Command
from josh_pipeline.core.environment import Environment
from josh_pipeline.core.named import named_class
from josh_pipeline.environments.own.environment import environment_of

BUILT_IN = {"toolwoz": "josh_pipeline.environments.toolwoz.environment:ToolWoz"}
"""Name to module and class; the first is played where nothing else is asked for."""
DEFAULT = next(iter(BUILT_IN))
GROUP = "josh.environments"
"""The entry-point group in which a package names its environments."""


def environment_class(name: str) -> type[Environment[Any]]:
    """Find an environment; see ``named_class``.

    A class that is no ``Environment`` is made one: see ``environments.own``.

    Raises:
        UserError: there is none of that name, it cannot be imported, or it has not the form of an environment.
    """
    found: Any = named_class(name, "environment", BUILT_IN, GROUP)
    made: type[Environment[Any]] = found if issubclass(found, Environment) else environment_of(found)
    return made


def brought_commands() -> Iterator[Command]:
    """Find the commands that built-in environments bring: ``COMMANDS`` of ``commands`` beside them.

    Every start of ``josh`` imports it, so it has to be light.
    """
    for place in BUILT_IN.values():
        module = f"{place.partition(':')[0].rpartition('.')[0]}.commands"
        if find_spec(module) is not None:
            yield from import_module(module).COMMANDS
