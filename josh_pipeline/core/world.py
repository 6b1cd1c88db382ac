"""A task made playable: what the search, the harvest and the benchmark ask of an environment.

The search prunes on new milestones and gives up void branches; ``outcome`` is the only reward, and labels,
harvest and benchmark read it there. Only an environment can promise that the two agree.
"""

import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn, Self

from josh_pipeline.core.errors import RolloutError, failing_as
from josh_pipeline.core.messages import Conversation


@dataclass(frozen=True)
class Tool:
    """A tool that the agent may call.

    Attributes:
        name: e.g. ``cancel_order``.
        description: one sentence for the agent.
        parameters: a JSON Schema of type object.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]

    @property
    def properties(self) -> Mapping[str, Mapping[str, Any]]:
        """The schema of each parameter, by name."""
        found: Mapping[str, Mapping[str, Any]] = self.parameters.get("properties", {})
        return found


@dataclass(frozen=True)
class ToolResult:
    """What a call returned.

    Attributes:
        payload: anything JSON can hold.
        error: the call was refused or failed; the payload says why.
    """

    payload: Any
    error: bool = False

    @property
    def brief(self) -> Any:
        """What an agent that is shown results in short sees of the payload; an environment may say less."""
        return self.payload


@dataclass(frozen=True)
class CallRecord:
    """One executed tool call and what came of it.

    Attributes:
        tool, arguments: as the agent wrote them.
        payload, brief, error: of the ``ToolResult``.
        earned: milestone ids that this call newly earned on its own branch.
    """

    tool: str
    arguments: Mapping[str, Any]
    payload: Any
    brief: Any
    error: bool
    earned: tuple[int, ...]


class World(ABC):
    """One task, playable. Its state changes with calls and hand-overs, and never otherwise."""

    @property
    @abstractmethod
    def instructions(self) -> str:
        """What the agent is told about its task."""

    @property
    @abstractmethod
    def tools(self) -> tuple[Tool, ...]:
        """The tools that the agent may call now; they may change at a hand-over, at no other time."""

    @property
    @abstractmethod
    def all_milestones(self) -> frozenset[int]:
        """Every milestone of the task: positions from 0. None: the task can be evaluated, not searched."""

    @abstractmethod
    def milestones(self) -> frozenset[int]:
        """Ids of the milestones earned so far in this world's state; what was earned stays earned."""

    @abstractmethod
    def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Execute a call. Faulty calls give an error result, never an exception."""

    @property
    def void(self) -> bool:
        """Nothing can be earned any more, whatever follows."""
        return False

    def hand_over(self) -> None:  # noqa: B027 (most worlds have nothing to do)
        """The agent has spoken, and its turn is over: milestones may be earned here, and tools may change."""

    def fork(self) -> Self:
        """Return a world in the same state that shares nothing mutable with this one."""
        return copy.deepcopy(self)

    def outcome(self, conversation: Conversation) -> float:
        """The reward of a conversation that led to this state, in [0, 1]; 1.0 is success.

        Args:
            conversation: all of it, internal messages included, without the system message.
        """
        return len(self.milestones()) / len(self.all_milestones) if self.all_milestones else 0.0


@dataclass(frozen=True)
class LostWorld(World):
    """Stands for a world that could not be forked: its branch fails where it is used."""

    fault: RolloutError

    def _fail(self) -> NoReturn:
        raise RolloutError(self.fault.kind, self.fault.message)

    @property
    def instructions(self) -> str:
        """Fail as the forking did."""
        self._fail()

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Fail as the forking did."""
        self._fail()

    @property
    def all_milestones(self) -> frozenset[int]:
        """Fail as the forking did."""
        self._fail()

    def milestones(self) -> frozenset[int]:
        """Fail as the forking did."""
        self._fail()

    def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Fail as the forking did."""
        self._fail()


def forked(world: World) -> World:
    """Fork a world for a branch; what breaks in it ends that branch, and no other."""
    try:
        with failing_as("world", "Forking the world"):
            return world.fork()
    except RolloutError as fault:
        return LostWorld(fault)


def called(world: World, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
    """Make a call in a world; returns its result as the store keeps it: of JSON's types alone.

    Raises:
        RolloutError: the call raised, or gave no result that JSON can hold.
    """
    with failing_as("world", f"The tool {tool}"):
        result = world.call(tool, arguments)
    if not isinstance(result, ToolResult):
        raise RolloutError("world", f"The tool {tool} gave a {type(result).__name__}, and no ToolResult.")
    try:
        payload = json.loads(json.dumps(result.payload, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as fault:
        raise RolloutError("world", f"The tool {tool} gave a payload that JSON cannot hold: {fault}.") from None
    return replace(result, payload=payload)


def judged(world: World, conversation: Conversation) -> float:
    """Ask a world for the reward of a conversation; whoever needs a reward asks here.

    Raises:
        RolloutError: it raised, or gave what is no reward.
    """
    with failing_as("world", "The outcome"):
        reward = float(world.outcome(conversation))
    if not 0.0 <= reward <= 1.0:  # neither is nan
        raise RolloutError("world", f"The outcome is {reward}, and a reward lies in [0, 1].")
    return reward
