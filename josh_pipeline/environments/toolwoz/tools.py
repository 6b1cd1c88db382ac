"""The tools of ToolWOZ: names, parameters, allowed values, and which calls are refused.

Source: ToolWOZ (arXiv 2409.04617), appendix and public tool definitions. Every parameter is an
optional string.
"""

from collections.abc import Mapping
from typing import Any

from josh_pipeline.core.errors import quoted
from josh_pipeline.core.world import Tool
from josh_pipeline.environments.toolwoz.goal import DOMAINS, ID_KEY, Semantics

PRICES = ("cheap", "moderate", "expensive")
AREAS = ("centre", "east", "north", "south", "west")
YES_NO = ("yes", "no")


def _tool(name: str, description: str, parameters: Mapping[str, tuple[str, ...]]) -> Tool:
    """Return a tool of optional strings; an empty tuple of values allows any."""
    properties = {
        parameter: {"type": "string", "enum": list(values)} if values else {"type": "string"}
        for parameter, values in parameters.items()
    }
    return Tool(name, description, {"type": "object", "properties": properties, "required": []})


TOOLS: tuple[Tool, ...] = (
    _tool("search_restaurant", "Find a restaurant.", {"food": (), "pricerange": PRICES, "name": (), "area": AREAS}),
    _tool("book_restaurant", "Book a table.", {"time": (), "day": (), "people": (), "name": ()}),
    _tool(
        "search_hotel",
        "Find a place to stay.",
        {
            "name": (),
            "area": AREAS,
            "parking": YES_NO,
            "pricerange": PRICES,
            "stars": ("0", "1", "2", "3", "4"),
            "internet": YES_NO,
            "type": ("hotel", "guesthouse"),
        },
    ),
    _tool("book_hotel", "Book a room.", {"stay": (), "day": (), "people": (), "name": ()}),
    _tool("search_attraction", "Find a place to visit.", {"type": (), "name": (), "area": AREAS}),
    _tool(
        "search_train",
        "Find a train; times are HH:MM.",
        {"leaveAt": (), "destination": (), "day": (), "arriveBy": (), "departure": ()},
    ),
    _tool("book_train", "Book train tickets.", {"people": (), "trainID": ()}),
    _tool("book_attraction", "Book an attraction.", {}),
)
"""All tools that an agent is offered; ``book_attraction`` is never rewarded."""

DOMAIN_TOOLS: Mapping[str, tuple[Tool, ...]] = {
    domain: tuple(tool for tool in TOOLS if tool.name.endswith(f"_{domain}")) for domain in DOMAINS
}

PARAMETERS: Mapping[str, tuple[str, ...]] = {tool.name: tuple(tool.properties) for tool in TOOLS}
"""Tool to the names of its parameters."""

SILENT_FAILURES = ("book_taxi", "book_hospital")
"""Under ``paper`` semantics these exist, take no parameter and always fail: the published tool list
holds them, though agents are not offered them."""

_KNOWN: Mapping[Semantics, Mapping[str, tuple[str, ...]]] = {
    "audited": PARAMETERS,
    "paper": {**PARAMETERS, **dict.fromkeys(SILENT_FAILURES, ())},
}


def search_parameters(domain: str) -> tuple[str, ...]:
    """Return the parameter names of ``search_<domain>``."""
    return PARAMETERS[f"search_{domain}"]


def book_parameters(domain: str) -> tuple[str, ...]:
    """Return the slots of ``book_<domain>`` that the user states: all but the entity's id."""
    return tuple(name for name in PARAMETERS[f"book_{domain}"] if name != ID_KEY[domain])


def refusal(tool: Any, arguments: Any, semantics: Semantics) -> str | None:
    """Say why a call is refused.

    Args:
        tool: the called name, whatever the agent wrote.
        arguments: the arguments, whatever the agent wrote.
        semantics: ``paper`` also knows ``book_taxi`` and ``book_hospital``.

    Returns:
        One sentence for the agent, or None for a call that is executed.
    """
    known = _KNOWN[semantics].get(tool) if isinstance(tool, str) else None
    if known is None:
        return f"There is no tool {quoted(tool)}; use one of {', '.join(PARAMETERS)}."
    if not isinstance(arguments, Mapping):
        return f"The arguments of {tool} must be an object of names and values."
    for name, value in arguments.items():
        if name not in known:
            return f"{tool} has no parameter {quoted(name)}; its parameters: {', '.join(known) or 'none'}."
        if isinstance(value, (list, tuple, Mapping)):
            return f"The value of {name} must be a string, not a list or an object."
    return None
