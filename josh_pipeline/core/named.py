"""Classes by name: built-in ones, those that other packages bring, and one's own."""

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from josh_pipeline.core.content import content_id
from josh_pipeline.core.errors import UserError


def named_class(name: str, noun: str, built_in: Mapping[str, str], group: str) -> Any:
    """Import what a name stands for.

    Args:
        name: a built-in one, one of the entry-point group, ``path/to/file.py:Class`` or
            ``package.module:Class``.
        noun: what it is, for people.
        built_in: name to ``package.module:Class``.
        group: the entry-point group in which a package names its own.

    Raises:
        UserError: there is none of that name, or it cannot be imported.
    """
    place = built_in.get(name)
    if place is None:
        brought = {entry.name: entry.value for entry in entry_points(group=group)}
        place = brought.get(name, name)
        if ":" not in place:
            known = ", ".join([*built_in, *sorted(brought)])
            raise UserError(
                f"There is no {noun} {name!r}: use one of {known}, path/to/file.py:Class or package.module:Class."
            )
    module, _, attribute = place.rpartition(":")
    found = getattr(_module(module, f"{noun} {name!r}"), attribute, None)
    if not isinstance(found, type):
        raise UserError(f"{module} has no class {attribute!r}: name the class of the {noun}.")
    return found


def from_anywhere(name: str) -> str:
    """Return a name that means the same from any folder: a file's by its whole path, others as they are."""
    module, colon, attribute = name.rpartition(":")
    return f"{Path(module).expanduser().absolute()}:{attribute}" if colon and module.endswith(".py") else name


def _module(place: str, what: str) -> Any:
    path = Path(place).expanduser()
    try:
        if path.suffix != ".py":
            return importlib.import_module(place)
        if not path.is_file():
            raise UserError(f"There is no file {place}, which {what} names.")
        path = path.resolve()
        own = f"josh_own_{path.stem}_{content_id(str(path))}"
        if own in sys.modules:
            return sys.modules[own]
        spec = importlib.util.spec_from_file_location(own, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[own] = module  # so that its classes can be copied and pickled
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[own]  # half of it must not be found the next time
            raise
        return module
    except UserError:
        raise
    except Exception as fault:  # whatever the code of others raises, it is at fault
        reason = " ".join(f"{type(fault).__name__}: {fault}".split())[:300].rstrip(".")
        raise UserError(f"{what[0].upper()}{what[1:]} cannot be imported ({reason}): mend its code.") from None
