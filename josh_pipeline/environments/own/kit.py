"""What a class of one's own offers: its tools, and what else the pipeline asks of it; all of its code runs here.

A public method is a tool, as TRL's ``environment_factory`` has it. What has another meaning (``HOOKS``) may be a
method or a property: TRL takes every public method but ``reset`` and ``get_reward`` for a tool, and no property.
"""

import copy
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from josh_pipeline.core.content import storable_value
from josh_pipeline.core.errors import RolloutError, UserError, failing_as
from josh_pipeline.core.world import Tool, ToolResult
from josh_pipeline.environments.own.worker import run

JUDGES = ("success", "get_reward")
"""What gives the reward; the second is TRL's name for it."""
HOOKS = frozenset(
    {*JUDGES, "reset", "milestones", "void", "tools", "instructions", "tasks", "demonstration", "fork", "close"}
)
"""Public names that are no tools."""
MAX_RESULT = 100_000
"""Characters of a result as JSON: about the 32,000 tokens that a whole context of a usual model holds."""


def require_playable(cls: type) -> None:
    """Hold a class to the form of an environment.

    Raises:
        UserError: it lacks something, or says something that it cannot mean.
    """
    if not callable(getattr(cls, "reset", None)) or not any(hasattr(cls, name) for name in (*JUDGES, "milestones")):
        raise UserError(
            f"{cls.__name__} is no environment: give it reset() and success() or milestones(), or name a class that "
            "subclasses josh_pipeline.core.environment.Environment."
        )
    fork = inspect.getattr_static(cls, "fork", None)
    if isinstance(fork, str) and fork != "replay":
        raise UserError(f'fork of {cls.__name__} is {fork!r}: set fork = "replay", or let it be a method.')


def tool_of(cls: type, name: str) -> Tool:
    """Read a tool off a method: its description and JSON Schema, as transformers read them.

    Raises:
        UserError: the method says too little about itself.
    """
    # Imported where it is used: transformers take seconds, and settings find environments at each start.
    from transformers.utils import get_json_schema

    method = getattr(cls, name)
    what = f"{cls.__name__}.{name}"
    if inspect.iscoroutinefunction(method):
        raise UserError(f"{what} is asynchronous: let the tool be a plain method.")
    try:
        schema = get_json_schema(method)["function"]
    except Exception as fault:  # of several classes, some of them private, and NameError from annotations
        raise UserError(
            f"{what} cannot be a tool ({' '.join(str(fault).split()).rstrip('!.')}): give it a docstring, and each "
            "parameter a type and a line under Args:, or begin its name with an underscore."
        ) from None
    return Tool(name, " ".join(schema["description"].split()), schema["parameters"])


@dataclass(frozen=True)
class Kit:
    """A class of one's own, and how its code is run.

    Attributes:
        cls: the class.
        seconds: that each piece of its code may take.
    """

    cls: type
    seconds: float

    @cached_property
    def toolbox(self) -> Mapping[str, Tool]:
        """Every tool by name, in the order of their names."""
        names = [name for name, _ in inspect.getmembers(self.cls, inspect.isfunction)]
        return {name: tool_of(self.cls, name) for name in names if not name.startswith("_") and name not in HOOKS}

    def fresh(self, given: Mapping[str, Any]) -> tuple[Any, str]:
        """Make an instance for a task; returns it, and what ``reset`` told about the task.

        Raises:
            RolloutError: its code broke.
        """

        def make() -> tuple[Any, Any]:
            made = self.cls()
            return made, made.reset(**copy.deepcopy(dict(given)))

        with failing_as("world", f"{self.cls.__name__}.reset"):
            made, told = run("reset", self.seconds, make)
        if told is not None and not isinstance(told, str):
            raise RolloutError("world", f"reset returned a {type(told).__name__}: let it return a text, or nothing.")
        return made, told or ""

    def has(self, hook: str) -> bool:
        """Whether the class has a hook."""
        return hasattr(self.cls, hook)

    def ask(self, instance: Any, hook: str) -> Any:
        """Return what a hook says, be it a method or a property.

        Raises:
            RolloutError: its code broke.
        """

        def ask() -> Any:
            value = getattr(instance, hook)
            return value() if callable(value) else value

        with failing_as("world", f"{self.cls.__name__}.{hook}"):
            return run(hook, self.seconds, ask)

    def make(self, instance: Any, tool: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Make a call whose tool and arguments were checked; returns its result, of JSON's types alone.

        A ``ValueError`` is the tool's refusal, which the agent sees.

        Raises:
            RolloutError: the tool raised anything else, took too long, or returned what cannot be kept.
        """
        part = f"The tool {tool}"
        try:
            payload = run(part, self.seconds, lambda: getattr(instance, tool)(**copy.deepcopy(dict(arguments))))
        except ValueError as refused:
            return ToolResult({"error": storable_value(str(refused))}, error=True)
        except RolloutError:
            raise
        except Exception as fault:
            reason = f"{type(fault).__name__}: {fault}"
            raise RolloutError(
                "world", f"{part} raised {reason}: let it raise ValueError where the agent is to mend the call."
            ) from fault
        try:
            text = json.dumps(payload, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as fault:
            raise RolloutError(
                "world", f"{part} returned what JSON cannot hold ({fault}): return text, numbers, lists or mappings."
            ) from None
        if len(text) > MAX_RESULT:
            raise RolloutError(
                "world",
                f"{part} returned {len(text):,} characters of JSON, and {MAX_RESULT:,} are the limit: return what the "
                "agent needs.",
            )
        return ToolResult(storable_value(json.loads(text)))

    def copied(self, instance: Any) -> Any:
        """Return an instance in the same state, by the class's ``fork``, else by ``copy.deepcopy``.

        Raises:
            RolloutError: it cannot be copied so.
        """
        name = self.cls.__name__
        if self.has("fork"):
            twin = self.ask(instance, "fork")
            if type(twin) is not type(instance) or twin is instance:
                raise RolloutError("world", f"fork of {name} gave no new {name}: let it return one in the same state.")
            return twin
        try:
            return run(f"Copying {name}", self.seconds, lambda: copy.deepcopy(instance))
        except RolloutError:
            raise
        except Exception as fault:
            raise RolloutError(
                "world",
                f'{name} cannot be copied ({type(fault).__name__}: {fault}): define fork(), or set fork = "replay".',
            ) from fault
