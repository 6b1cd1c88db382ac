"""Faults of settings: each with its place, what is wrong, and the name that was probably meant."""

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

Place = tuple[str, ...]
"""Names of the sections down to a setting; empty for what settings are wrong together."""
Fault = tuple[Place, str]


def faults_in(fault: ValidationError, model: type[BaseModel]) -> list[Fault]:
    """List every fault of settings, in their order.

    Args:
        model: the class that they were validated by.
    """
    found: list[Fault] = []
    for error in fault.errors():
        place = tuple(map(str, error["loc"]))
        inner: Sequence[Fault] | None = error.get("ctx", {}).get("inner")
        if inner is not None:
            found += [((*place, *deeper), said) for deeper, said in inner]
        elif error["type"] == "extra_forbidden":
            found.append((place, f"there is no such setting{suggestion(place[-1], names_at(model, place[:-1]))}"))
        else:
            found.append((place, str(error["msg"]).removeprefix("Value error, ")))
    return found


def passed_on(faults: Sequence[Fault]) -> PydanticCustomError:
    """Return what a validator raises for the faults of the settings that it validated by another class."""
    return PydanticCustomError("faults", "{said}", {"said": told(faults), "inner": list(faults)})


def names_at(model: type[BaseModel], place: Place) -> Collection[str]:
    """Return the names of the settings of a section; none where the class does not say which class it has."""
    for name in place:
        annotation: Any = model.model_fields[name].annotation if name in model.model_fields else None
        kinds = get_args(annotation) or (annotation,)
        models = [one for one in kinds if isinstance(one, type) and issubclass(one, BaseModel)]
        if len(models) != 1:
            return ()
        model = models[0]
    return model.model_fields.keys()


def suggestion(name: str, known: Collection[str]) -> str:
    """Ask whether a known name was meant; empty where none is like the one given."""
    close = get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def told(faults: Sequence[Fault]) -> str:
    """Say faults in one line."""
    return "; ".join(f"{'.'.join(place)}: {said}" if place else said for place, said in faults)


def faults_of(fault: ValidationError, model: type[BaseModel]) -> str:
    """Say every fault of some settings in one line; see ``faults_in``."""
    return told(faults_in(fault, model))


def by_giver(faults: Sequence[Fault], given: Mapping[str, Any], givers: Mapping[Place, str], profile: str) -> str:
    """Say faults, each after what gave the setting.

    Args:
        given: nested values that were laid over those of a profile.
        givers: what gave them, by their places, for people; that of the empty place gave all that no other did.
        profile: what people call it.
    """
    together = f"{profile} with {' and '.join(givers.values())}" if givers else profile
    by: dict[str, list[Fault]] = {}
    for place, said in faults:
        over = [one for one in givers if one[: len(place)] == place[: len(one)] and _holds(given, place)]
        giver = together if not place else givers[max(over, key=len)] if over else profile
        by.setdefault(giver, []).append((place, said))
    return " ".join(
        f"{giver[0].upper()}{giver[1:]} has {len(found)} faulty setting{'s' if len(found) > 1 else ''}: {told(found)}."
        for giver, found in by.items()
    )


def _holds(values: Any, place: Place) -> bool:
    """Whether nested values hold something at a place, or instead of a section that leads to it."""
    for name in place:
        if not isinstance(values, dict):
            return True
        if name not in values:
            return False
        values = values[name]
    return True
