"""A class of one's own as a world: what was called, what was earned, and how a branch is forked."""

import copy
import inspect
import json
import weakref
from collections.abc import Mapping
from numbers import Real
from typing import Any, Self

from josh_pipeline.core.content import canonical_json
from josh_pipeline.core.errors import RolloutError, quoted
from josh_pipeline.core.messages import Conversation
from josh_pipeline.core.world import Tool, ToolResult, World
from josh_pipeline.environments.own.arguments import refusal
from josh_pipeline.environments.own.kit import JUDGES, Kit


class OwnWorld(World):
    """One task, playable by an instance of the class. All but the instance is immutable, and shared by forks.

    Milestones are kept once they were earned, and so is ``void``: the class may say what holds now. A class without
    milestones has one, which is earned where the reward is 1 after a call or at the end of a turn.

    Args:
        kit: the class.
        given: what ``reset`` gets.

    Raises:
        RolloutError: the class broke on the task.
    """

    def __init__(self, kit: Kit, given: Mapping[str, Any]) -> None:
        self._kit = kit
        self._given = given
        self._calls: tuple[tuple[str, Mapping[str, Any], ToolResult], ...] = ()
        self._earned: frozenset[int] = frozenset()
        self._void = False
        self._reward = 0.0
        self._judge = next((name for name in JUDGES if kit.has(name)), None)
        self._instance, told = kit.fresh(given)
        self._hold()
        self._instructions = f"{self._about()}\n{told}".strip()
        self._number = len(self._states())
        self._look()
        self._offered = self._offers()

    @property
    def instructions(self) -> str:
        """The class's ``instructions``, else its docstring; then what ``reset`` told of the task."""
        return self._instructions

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Those that the class's ``tools`` named at the last hand-over; without it, all."""
        return self._offered

    @property
    def all_milestones(self) -> frozenset[int]:
        """Positions of what ``milestones`` lists."""
        return frozenset(range(self._number))

    @property
    def void(self) -> bool:
        """The class said so once."""
        return self._void

    def milestones(self) -> frozenset[int]:
        """Positions of those that were earned."""
        return self._earned

    def call(self, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Execute a call; one that the tool's schema does not take is an error result, and never reaches it."""
        offered = {one.name: one for one in self._offered}
        if tool not in offered:
            fault: str | None = f"There is no tool {quoted(tool)}; use one of {', '.join(offered)}."
        elif not isinstance(arguments, Mapping):
            fault = f"The arguments of {tool} must be an object of names and values."
        else:
            fault = refusal(offered[tool], arguments)
        if fault is not None:
            return ToolResult({"error": fault}, error=True)
        result = self._kit.make(self._instance, tool, arguments)
        self._calls += ((tool, arguments, result),)
        self._look()
        return result

    def hand_over(self) -> None:
        """Look at what the class says now, and offer the tools that it names."""
        self._look()
        self._offered = self._offers()

    def fork(self) -> Self:
        """Return a world in the same state, as the class can be forked.

        Raises:
            RolloutError: it cannot, or repeats a call with another result.
        """
        twin = copy.copy(self)
        replay = inspect.getattr_static(self._kit.cls, "fork", None) == "replay"
        twin._instance = self._replayed() if replay else self._kit.copied(self._instance)
        twin._hold()
        return twin

    def outcome(self, conversation: Conversation) -> float:
        """The class's reward, else the share of milestones that was earned; 0 once the world is void."""
        if self._void:
            return 0.0
        if self._judge is None:
            return len(self._earned) / self._number if self._number else 0.0
        now = self._judged(self._judge)
        if now != self._reward:
            raise RolloutError(
                "world",
                f"{self._judge} says {now:g} where it said {self._reward:g}, and nothing was called between: let it "
                "change nothing.",
            )
        return now

    def _hold(self) -> None:
        """Let an instance that has something to close do so once nobody needs it any more."""
        if self._kit.has("close"):
            weakref.finalize(self, self._kit.ask, self._instance, "close").atexit = False

    def _about(self) -> str:
        cls = self._kit.cls
        text = self._kit.ask(self._instance, "instructions") if self._kit.has("instructions") else inspect.getdoc(cls)
        if not isinstance(text, str) or not text.strip():
            raise RolloutError(
                "world",
                f"{cls.__name__} tells the agent nothing: give it a docstring, or instructions, that is a text.",
            )
        return " ".join(text.split())

    def _offers(self) -> tuple[Tool, ...]:
        toolbox = self._kit.toolbox
        names = self._kit.ask(self._instance, "tools") if self._kit.has("tools") else toolbox
        if unknown := [name for name in names if name not in toolbox]:
            raise RolloutError("world", f"tools names {unknown[0]!r}, and the tools are {', '.join(toolbox)}.")
        return tuple(toolbox[name] for name in names)

    def _look(self) -> None:
        """Ask the class how it stands; afterwards nothing of it is run until something is called."""
        if self._kit.has("void"):
            self._void |= bool(self._kit.ask(self._instance, "void"))
        if self._void:
            return
        states = self._states()
        if len(states) != self._number:
            raise RolloutError(
                "world",
                f"milestones lists {len(states)} where it listed {self._number}: let it list all, each True or False.",
            )
        self._earned |= {place for place, earned in enumerate(states) if earned}

    def _states(self) -> list[bool]:
        """Return for each milestone whether it holds now; notes the reward."""
        if self._judge is not None:
            self._reward = self._judged(self._judge)
        if not self._kit.has("milestones"):
            return [self._reward == 1.0]
        said = self._kit.ask(self._instance, "milestones")
        states = list(said.values() if isinstance(said, Mapping) else said)
        if not all(isinstance(one, bool) for one in states):
            raise RolloutError(
                "world", f"milestones says {quoted(repr(said))}: let it list all of them, each True or False."
            )
        return states

    def _judged(self, judge: str) -> float:
        said = self._kit.ask(self._instance, judge)
        if not isinstance(said, Real) or not 0.0 <= float(said) <= 1.0:
            raise RolloutError(
                "world", f"{judge} says {quoted(repr(said))}: let it return True, False or a number from 0 to 1."
            )
        return float(said)

    def _replayed(self) -> Any:
        instance, _ = self._kit.fresh(self._given)
        for number, (tool, arguments, result) in enumerate(self._calls, start=1):
            again = self._kit.make(instance, tool, arguments)
            if again != result:
                raise RolloutError(
                    "world",
                    f"Call {number} of the branch, {tool}({json.dumps(dict(arguments))}), gave "
                    f"{quoted(canonical_json(again.payload))} when it was repeated, and "
                    f"{quoted(canonical_json(result.payload))} before: let equal calls give equal results.",
                )
        return instance
