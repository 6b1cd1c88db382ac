"""Moves in the world of a task, and what the world shows after each."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from josh_pipeline.core.environment import Environment, T
from josh_pipeline.core.errors import SHOWN_CHARACTERS, RolloutError, failing_as
from josh_pipeline.core.messages import Conversation, Message, ToolCall
from josh_pipeline.core.world import World, called, judged

SPEECH = "Done. Is there anything else that you would like, please?"
"""What the agent says at the end of each turn."""


@dataclass(frozen=True)
class Move:
    """A call; where ``tool`` is None, the end of the agent's turn."""

    tool: str | None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return "the end of a turn" if self.tool is None else f"{self.tool}({shortened(self.arguments)[1:-1]})"


Script = tuple[Move, ...]


@dataclass
class Play:
    """A world, and what was done and seen in it.

    Attributes:
        asking: milestones, void, outcome and tools are asked for after each move, not at the end alone.
        start: what the world showed before anything was done; empty where it was not asked.
        shown: what it showed after each move, as JSON.
        faults: name of the promise that failed on a move (see ``check``), and a sentence.
    """

    world: World
    conversation: Conversation
    asking: bool = True
    start: Mapping[str, Any] = field(default_factory=dict)
    moves: Script = ()
    shown: tuple[Mapping[str, Any], ...] = ()
    faults: tuple[tuple[str, str], ...] = ()

    def make(self, *moves: Move) -> "Play":
        """Make moves, and look at what they do."""
        for place, move in enumerate(moves, start=1):
            seen = self._moved(move)
            self.moves += (move,)
            self.shown += (seen | self.look() if self.asking or place == len(moves) else seen,)
        return self

    def fork(self) -> "Play":
        """Return a play that goes on in a fork of the world.

        Raises:
            RolloutError: the world cannot be forked, or its fork is no world.
        """
        with failing_as("world", "fork()"):
            world = self.world.fork()
        if not isinstance(world, World):
            raise RolloutError("world", f"fork() gave a {type(world).__name__}, and no World.")
        return replace(self, world=world)

    def _moved(self, move: Move) -> dict[str, Any]:
        try:
            if move.tool is None:
                with failing_as("world", "The end of a turn"):
                    self.world.hand_over()
                self.conversation += (Message("assistant", SPEECH), Message("user", "Yes, go on."))
                return {"raised": False}
            with failing_as("world", "Writing the arguments as JSON"):
                arguments = json.loads(json.dumps(move.arguments))
            result = called(self.world, move.tool, arguments)
            with failing_as("world", f"What agents are shown of the result of {move.tool}"):
                brief = json.loads(json.dumps(result.brief, allow_nan=False))
            call = ToolCall(move.tool, move.arguments)
            self.conversation += (
                Message("assistant", json.dumps({"name": call.name, "parameters": dict(call.arguments)}), (call,)),
                Message("tool", json.dumps(result.payload), error=result.error),
            )
            return {"result": result.payload, "brief": brief, "error": bool(result.error), "raised": False}
        except RolloutError as fault:
            self.faults += (("calls", f"{move}: {fault.message}"),)
            return {"raised": True}

    def look(self) -> dict[str, Any]:
        """Ask a world all that can be asked of it."""
        seen: dict[str, Any] = {}
        try:
            with failing_as("world", "The world"):
                tools = {one.name: [one.description, dict(one.parameters)] for one in self.world.tools}
                asked = {
                    "instructions": self.world.instructions,
                    "tools": tools,
                    "milestones": sorted(self.world.milestones()),
                    "all milestones": sorted(self.world.all_milestones),
                    "void": bool(self.world.void),
                }
                if len(tools) < len(self.world.tools):
                    raise TypeError("two of its tools have the same name")
                seen = json.loads(json.dumps(asked))  # a copy: what the world changes later must not change it
        except RolloutError as fault:
            self.faults += (("playable", f"{self._done()}: {fault.message}"),)
        try:
            seen["reward"] = judged(self.world, self.conversation)
        except RolloutError as fault:
            self.faults += (("outcome", f"{self._done()}: {fault.message}"),)
        return seen

    def _done(self) -> str:
        return f"after {self.moves[-1]}" if self.moves else "before anything was done"


def begun(environment: Environment[T], task: T, *, asking: bool = True) -> Play:
    """Return a play in a fresh world, as the search has it for training tasks and the benchmark for others.

    Raises:
        RolloutError: it cannot be made.
    """
    with failing_as("world", "Making the world"):
        world = environment.world(task, searching=task.role == "train")
    play = Play(world, (Message("user", " ".join(task.message)),), asking)
    play.start = play.look() if asking else {}
    return play


def difference(one: Play, other: Play) -> tuple[str, str, str] | None:
    """Return where two plays of the same moves first show something else, and what each shows there, as text.

    What only one of them was asked is left out.
    """
    for move, here, there in zip(one.moves, one.shown, other.shown, strict=True):
        asked = [key for key in here if key in there]
        found = _first({key: here[key] for key in asked}, {key: there[key] for key in asked}, ())
        if found is not None:
            place, first, second = found
            return f"{'.'.join(place)} after {move}", first, second
    return None


def _first(one: Any, other: Any, place: tuple[str, ...]) -> tuple[tuple[str, ...], str, str] | None:
    if one == other:
        return None
    here, there = _items(one), _items(other)
    if here is None or there is None:
        return place, shortened(one), shortened(other)
    for key in [*here, *there]:
        if not (key in here and key in there):
            first, second = (shortened(items[key]) if key in items else "absent" for items in (here, there))
            return (*place, key), first, second
        if found := _first(here[key], there[key], (*place, key)):
            return found
    return None


def _items(value: Any) -> dict[str, Any] | None:
    """Return what a JSON object or list holds, by key or position; None for what holds nothing."""
    if isinstance(value, list):
        return {str(place): one for place, one in enumerate(value)}
    return value if isinstance(value, dict) else None


def shortened(value: Any) -> str:
    """Write JSON for a message, cut to ``SHOWN_CHARACTERS``."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
