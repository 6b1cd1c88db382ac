"""What is wrong with the arguments of a call, by the JSON Schema of its tool."""

from collections.abc import Callable, Mapping
from typing import Any

from josh_pipeline.core.errors import quoted
from josh_pipeline.core.world import Tool


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


TYPES: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "string": ("a text", lambda value: isinstance(value, str)),
    "integer": ("a whole number", lambda value: _number(value) and value == int(value)),
    "number": ("a number", _number),
    "boolean": ("true or false", lambda value: isinstance(value, bool)),
    "array": ("a list", lambda value: isinstance(value, list)),
    "object": ("an object", lambda value: isinstance(value, Mapping)),
    "null": ("null", lambda value: value is None),
}
"""Type of JSON Schema to its name for people, and what is of it."""


def refusal(tool: Tool, arguments: Mapping[str, Any]) -> str | None:
    """Say in one sentence for the agent why a tool does not take arguments; None where it does."""
    for name in arguments:
        if name not in tool.properties:
            known = ", ".join(tool.properties) or "none"
            return f"{tool.name} has no parameter {quoted(name)}; its parameters: {known}."
    for name in tool.parameters.get("required", ()):
        if name not in arguments:
            return f"{tool.name} needs {name}."
    for name, value in arguments.items():
        if fault := _fault(value, tool.properties[name]):
            return f"{name} of {tool.name} must be {fault}."
    return None


def _fault(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Say what a value must be by a schema; None where it is that. What no keyword here speaks of is anything."""
    if value is None and schema.get("nullable"):
        return None
    if "enum" in schema:
        return None if value in schema["enum"] else f"one of {', '.join(map(str, schema['enum']))}"
    if "anyOf" in schema:
        faults = [_fault(value, one) for one in schema["anyOf"]]
        return None if None in faults else " or ".join(dict.fromkeys(filter(None, faults)))
    kinds = schema.get("type", [])
    known = [TYPES[kind] for kind in ([kinds] if isinstance(kinds, str) else kinds) if kind in TYPES]
    if known and not any(is_of(value) for _, is_of in known):
        return " or ".join(name for name, _ in known)
    inner: list[tuple[Any, Mapping[str, Any]]] = []
    if isinstance(value, list) and "items" in schema:
        inner = [(one, schema["items"]) for one in value]
    elif isinstance(value, Mapping) and isinstance(schema.get("additionalProperties"), Mapping):
        inner = [(one, schema["additionalProperties"]) for one in value.values()]
    found = next((fault for one, of in inner if (fault := _fault(one, of))), None)
    return found and f"{known[0][0]} of which each is {found}"
