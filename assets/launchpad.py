"""The settings as Dagster's launchpad shows them: typed, described, and none of them required."""

import types
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import dagster as dg
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from josh_pipeline.core.environment import EnvironmentSettings
from josh_pipeline.environments.registry import BUILT_IN, environment_class
from josh_pipeline.settings import Settings

SCALARS: dict[type, Any] = {bool: dg.Bool, int: dg.Int, float: dg.Float, str: dg.String}
BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
UNIONS = (Union, types.UnionType)


def settings_field() -> dg.Field:
    """Return the launchpad's field ``settings``: every setting, by section, all of them optional."""
    return dg.Field(
        section(Settings, ""),
        is_required=False,
        description="Settings laid over the profile's; what is left out stays as the profile has it. All are "
        "validated together before a step begins, and every fault is named at once.",
    )


def section(model: type[BaseModel], path: str) -> dg.Shape:
    """Return the fields of a group of settings."""
    fields = {name: info for name, info in model.model_fields.items() if name != "profile"}
    shape = {name: field(info, f"{path}_{name}") for name, info in fields.items()}
    return dg.Shape(shape)  # type: ignore[no-untyped-call]


def field(info: FieldInfo, path: str) -> dg.Field:
    """Return one setting, or a group of them."""
    return dg.Field(kind(info.annotation, path), is_required=False, description=about(info))


def kind(annotation: Any, path: str) -> Any:
    """Return the type by which Dagster checks a value.

    Args:
        path: the setting's path, which names its enumeration: Dagster wants names to be unique.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind(arguments[0], path)
    if origin is Literal:
        return dg.Enum(f"Josh{path}", [dg.EnumValue(value) for value in arguments])
    if origin is tuple:
        return dg.Array(kind(arguments[0], path))
    if origin is dict:
        return dg.Permissive()  # type: ignore[no-untyped-call]
    if origin in UNIONS:
        inner = [argument for argument in arguments if argument is not type(None)]
        if len(inner) == 1:
            return dg.Noneable(kind(inner[0], path))
        return alternatives(inner, path)
    if issubclass(annotation, EnvironmentSettings):
        return environments(path)
    if issubclass(annotation, BaseModel):
        return section(annotation, path)
    return SCALARS[annotation]


def environments(path: str) -> dg.Permissive:
    """Return the settings of the built-in environments; one of one's own may take others."""
    fields: dict[str, dg.Field] = {}
    for name in BUILT_IN:
        model = environment_class(name).Settings
        fields |= {one: field(info, f"{path}_{one}") for one, info in model.model_fields.items()}
    told = f"{', '.join(BUILT_IN)}, path/to/file.py:Class or package.module:Class."
    fields |= {"name": dg.Field(str, is_required=False, description=told)}
    return dg.Permissive(fields)  # type: ignore[no-untyped-call]


def alternatives(models: list[type[BaseModel]], path: str) -> dg.Shape:
    """Return the settings of several methods as one group; ``method`` chooses among them."""
    methods = {get_args(model.model_fields["method"].annotation)[0]: model for model in models}
    names = dict.fromkeys(name for model in models for name in model.model_fields)
    shape = {}
    for name in names:
        having = {m: model.model_fields[name] for m, model in methods.items() if name in model.model_fields}
        first = next(iter(having.values()))
        if name == "method":
            values = [dg.EnumValue(method, description=one.description) for method, one in having.items()]
            told = " ".join(f"'{method}': {one.description}" for method, one in having.items())
            shape[name] = dg.Field(dg.Enum(f"Josh{path}_method", values), is_required=False, description=told)
            continue
        defaults = {method: one.default for method, one in having.items()}
        only = "" if len(having) == len(methods) else f" Of {' and '.join(having)} only."
        told = f"{first.description}{limits(first)}{only}{stated(defaults)}"
        shape[name] = dg.Field(kind(first.annotation, f"{path}_{name}"), is_required=False, description=told)
    return dg.Shape(shape)  # type: ignore[no-untyped-call]


def about(info: FieldInfo) -> str:
    """Return what the launchpad says about a setting: its meaning, its bounds and its default."""
    described = info.description or docstring(info.annotation)
    if isinstance(info.default, BaseModel | dict):
        return described
    return f"{described}{limits(info)}{stated({'': info.default})}"


def docstring(annotation: Any) -> str:
    """Return the first line of what a group of settings says about itself."""
    models = get_args(annotation) or (annotation,)
    if len(models) > 1:
        return "How the adapter is trained; some settings belong to one method only."
    return str(models[0].__doc__).splitlines()[0]


def limits(info: FieldInfo) -> str:
    """Return the bounds of a number as a sentence; empty where it has none."""
    found = [
        f"{word} {getattr(mark, name)}"
        for mark in info.metadata
        for name, word in BOUNDS.items()
        if getattr(mark, name, None) is not None
    ]
    return f" {' and '.join(found).capitalize()}." if found else ""


def stated(defaults: Mapping[str, Any]) -> str:
    """Return the default as a sentence, by method where the methods differ."""
    plain = {method: value for method, value in defaults.items() if not isinstance(value, BaseModel)}
    if not plain:
        return ""
    values = {method: shown(value) for method, value in plain.items()}
    if len(set(values.values())) == 1:
        return f" Without a profile: {next(iter(values.values()))}."
    return f" Without a profile: {', '.join(f'{value} ({method})' for method, value in values.items())}."


def shown(value: Any) -> str:
    """Return a default as the launchpad's YAML would have it."""
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)
