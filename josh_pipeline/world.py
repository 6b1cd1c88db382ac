"""A goal made playable: the interface between the search and an environment.

ToolWOZ implements it in ``josh_pipeline.toolwoz.world``. The search prunes on new milestones, the
harvest filters on ``outcome``; only ToolWOZ promises that the two agree.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

from josh_pipeline.dialogue.messages import Conversation


@dataclass(frozen=True)
class Tool:
    """A tool that the agent may call; every parameter is an optional string.

    Attributes:
        name: e.g. ``search_hotel``.
        description: one sentence for the agent.
        parameters: name to its allowed values; an empty tuple allows any string.
    """

    name: str
    description: str
    parameters: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class ToolResult:
    """What a call returned.

    Attributes:
        payload: JSON-serialisable: ``{"error": text}``, ``{"rows": [row, ...]}`` with whole rows for a
            search, or ``{"success": bool, "entity": ..., "reference": ...}`` for a booking.
        matches: number of database rows that matched the query; 0 for anything but a search.
    """

    payload: Mapping[str, Any]
    matches: int = 0

    @property
    def error(self) -> bool:
        """True where the call was refused with an error text."""
        return "error" in self.payload


class World(Protocol):
    """One goal made playable. Databases are shared; a fork costs next to nothing."""

    @property
    def instructions(self) -> str:
        """What the agent is told about its task."""
        ...

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools that the agent may call."""
        ...

    @property
    def all_milestones(self) -> frozenset[int]:
        """Every milestone of the goal."""
        ...

    def fork(self) -> Self:
        """Return a world in the same state that shares nothing mutable with this one."""
        ...

    def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Execute a call. Faulty calls give an error result, never an exception."""
        ...

    def milestones(self) -> frozenset[int]:
        """Ids of the milestones earned so far in this world's state."""
        ...

    def outcome(self, conversation: Conversation) -> float:
        """The reward of a finished conversation in [0, 1]; 1.0 is success."""
        ...
