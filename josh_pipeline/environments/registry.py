"""Environments by name: those that come with the package, those that other packages bring, and one's own."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple

from josh_pipeline.core.command import Command
from josh_pipeline.core.environment import Environment
from josh_pipeline.core.errors import UserError


class BuiltIn(NamedTuple):
    """An environment that comes with the package.

    Attributes:
        package: where all of it lies.
        place: module and class in the package.
        commands: a module in the package that declares commands of its own in ``COMMANDS``, if any. Every
            start of ``josh`` imports it, so it has to be light.
    """

    package: str
    place: str
    commands: str | None = None


BUILT_IN = {
    "toolwoz": BuiltIn("josh_pipeline.environments.toolwoz", "environment:ToolWoz", "commands"),
}
"""By name; the first is played where nothing else is asked for."""
DEFAULT = next(iter(BUILT_IN))
GROUP = "josh.environments"
"""The entry-point group in which a package names its environments."""


def environment_class(name: str) -> type[Environment[Any]]:
    """Find an environment.

    Args:
        name: a built-in one, one of the group ``josh.environments``, ``path/to/file.py:Class`` or
            ``package.module:Class``.

    Raises:
        UserError: there is none of that name, it cannot be imported, or it is no ``Environment``.
    """
    if name in BUILT_IN:
        place = f"{BUILT_IN[name].package}.{BUILT_IN[name].place}"
    else:
        brought = {entry.name: entry.value for entry in entry_points(group=GROUP)}
        place = brought.get(name, name)
        if ":" not in place:
            known = ", ".join([*BUILT_IN, *sorted(brought)])
            raise UserError(
                f"There is no environment {name!r}: use one of {known}, path/to/file.py:Class or "
                "package.module:Class."
            )
    module, _, attribute = place.rpartition(":")
    found = getattr(_module(module, name), attribute, None)
    if not (isinstance(found, type) and issubclass(found, Environment)):
        raise UserError(
            f"{attribute!r} of {module} is no environment: name a class that subclasses "
            "josh_pipeline.core.environment.Environment."
        )
    return found


def commands() -> Iterator[Command]:
    """Find the commands that built-in environments bring."""
    for one in BUILT_IN.values():
        if one.commands is not None:
            yield from importlib.import_module(f"{one.package}.{one.commands}").COMMANDS


def _module(place: str, name: str) -> Any:
    path = Path(place).expanduser()
    try:
        if path.suffix != ".py":
            return importlib.import_module(place)
        if not path.is_file():
            raise UserError(f"There is no file {place}, which environment {name!r} names.")
        own = f"josh_environment_{path.resolve().stem}"
        spec = importlib.util.spec_from_file_location(own, path.resolve())
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[own] = module  # so that its classes can be copied and pickled
        spec.loader.exec_module(module)
        return module
    except UserError:
        raise
    except Exception as fault:  # whatever the code of others raises, it is at fault
        reason = " ".join(f"{type(fault).__name__}: {fault}".split())[:300].rstrip(".")
        raise UserError(f"Environment {name!r} cannot be imported ({reason}): mend its code.") from None
