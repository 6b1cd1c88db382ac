"""Writes settings.md, beside itself, from the classes that settings are validated by.

python docs/settings.py
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from assets.launchpad import docstring, limits, shown
from josh_pipeline.environments.registry import BUILT_IN, environment_class
from josh_pipeline.settings import Settings, load_settings, profile_names
from josh_pipeline.settings.training import BUILT_IN_SETTINGS

PAGE = Path(__file__).with_suffix(".md")
HEAD = """# Settings

A profile is a YAML file of these, by section; the launchpad of Dagster's UI takes the same under
`resources: josh: config: settings:`. What is left out has its default. Faults are named all at once, with the name that
was probably meant, before anything starts. The last column says what the shipped profiles
([their files](../josh_pipeline/profiles)) have instead of the default. `python docs/settings.py` writes this page.
"""


CHOOSES = {
    "name": "Which environment ([environments.md](environments.md)).",
    "method": "Which method ([training.md](training.md)).",
}
"""Setting by which a section chooses its class, and its meaning."""


@dataclass
class Entry:
    """A setting: its name in the section, its meaning, and by variant its defaults and what may stand there."""

    name: str
    meaning: str
    defaults: dict[str, str] = field(default_factory=dict)
    allowed: dict[str, str] = field(default_factory=dict)


def page() -> str:
    """Return the page."""
    profiles = {name: load_settings(name).model_dump(mode="json") for name in profile_names()}
    parts = [HEAD, *table("", {"": Settings}, profiles)]
    for name, info in Settings.model_fields.items():
        if name == "environment":
            parts += sections(name, {one: environment_class(one).Settings for one in BUILT_IN}, profiles)
        elif name == "training":
            parts += sections(name, BUILT_IN_SETTINGS, profiles)
        elif model := section_of(info):
            parts += sections(name, {"": model}, profiles)
    return "\n".join(parts)


def sections(path: str, models: Mapping[str, type[BaseModel]], profiles: Mapping[str, Any]) -> Iterator[str]:
    """Yield a section and those inside it; of several variants together."""
    first = next(iter(models.values()))
    about = "How the adapter is trained; `method` chooses, and has defaults of its own." if len(models) > 1 else ""
    yield f"## {path}\n\n{about or docstring(first)}\n"
    yield from table(path, models, profiles)
    for name, info in first.model_fields.items():
        if model := section_of(info):
            yield from sections(f"{path}.{name}", {"": model}, profiles)


def table(path: str, models: Mapping[str, type[BaseModel]], profiles: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of a section; nothing where all of it are sections."""
    entries: dict[str, Entry] = {}
    for variant, model in models.items():
        for name, info in model.model_fields.items():
            if section_of(info) or name == "profile" or (not path and name != "seed"):
                continue
            entry = entries.setdefault(name, Entry(name, str(info.description)))
            entry.defaults[variant] = f"`{shown(info.default)}`"
            entry.allowed[variant] = allowed(info)
    if not entries:
        return
    yield "| setting | default | allowed | meaning | profiles |\n|---|---|---|---|---|"
    for entry in entries.values():
        if entry.name in CHOOSES:
            names = ", ".join(f"`{name}`" for name in models)
            default, meaning, may = f"`{next(iter(models))}`", CHOOSES[entry.name], f"{names}, or a class of one's own"
        else:
            default, meaning = by_variant(entry.defaults, len(models)), entry.meaning
            may = by_variant(entry.allowed, len(entry.allowed))
        yield f"| `{entry.name}` | {default} | {may} | {meaning} | {in_profiles(path, entry, profiles)} |"
    yield ""


def by_variant(values: Mapping[str, str], variants: int) -> str:
    """Return a value; those of the variants where they differ, or where not all have one."""
    if len(values) == variants and len(set(values.values())) == 1:
        return next(iter(values.values()))
    return "; ".join(f"{variant}: {value}" for variant, value in values.items())


def in_profiles(path: str, entry: Entry, profiles: Mapping[str, Any]) -> str:
    """Return what profiles have instead of the default."""
    found: dict[str, list[str]] = {}
    for profile, values in profiles.items():
        section = values
        for name in filter(None, path.split(".")):
            section = section[name]
        if entry.name in CHOOSES or entry.name not in section:
            continue
        value = section[entry.name]
        value = f"`{shown(tuple(value) if isinstance(value, list) else value)}`"
        if value != entry.defaults.get(str(section.get("method", "")), next(iter(entry.defaults.values()))):
            found.setdefault(value, []).append(profile)
    return "; ".join(f"{', '.join(names)}: {value}" for value, names in found.items())


def section_of(info: FieldInfo) -> type[BaseModel] | None:
    """Return the class of a section, which may be left out by `null`; None for a setting."""
    kinds = get_args(info.annotation) or (info.annotation,)
    return next((one for one in kinds if isinstance(one, type) and issubclass(one, BaseModel)), None)


def allowed(info: FieldInfo) -> str:
    """Say what may stand there."""
    optional = NoneType in get_args(info.annotation)
    return f"{kind(info.annotation)}{limits(info).rstrip('.').lower()}{' or `null`' if optional else ''}"


def kind(annotation: Any) -> str:
    """Name a type."""
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return kind(arguments[0])
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if get_origin(annotation) is tuple:
        return f"list of {kind(arguments[0])}"
    if get_origin(annotation) is dict:
        return "mapping"
    if NoneType in arguments:  # said behind the bounds
        return kind(next(one for one in arguments if one is not NoneType))
    return {bool: "`true`, `false`", int: "whole number", float: "number", str: "text"}[annotation]


def main() -> int:
    """Write the page."""
    PAGE.write_text(page())
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
