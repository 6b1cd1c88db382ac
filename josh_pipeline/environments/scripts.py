"""Scripts of moves for the worlds of tasks: the oracle's, and drawn ones; and which tasks they are played on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from josh_pipeline.core.content import content_id
from josh_pipeline.core.environment import ROLES, T, Task, WantedCall
from josh_pipeline.core.errors import failing_as
from josh_pipeline.core.world import Tool
from josh_pipeline.environments.plays import Move, Play, Script

MOVES = 10
"""In a drawn script: enough for what five calls earn, and for a fork in their middle."""
BORROWED_TASKS = 50
"""Tasks whose calls and values are lent to the scripts of others."""
HAND_OVER = Move(None)


@dataclass(frozen=True)
class Pool:
    """What calls are drawn from: those that tasks want, and values that they pass, by parameter."""

    calls: Sequence[WantedCall]
    values: Mapping[str, Sequence[Any]]


def pool_of(tasks: Sequence[Task]) -> Pool:
    """Return what the calls of tasks are drawn from."""
    calls = [call for task in tasks[:BORROWED_TASKS] for call in task.calls]
    values: dict[str, list[Any]] = {}
    for call in calls:
        for name, value in call.parameters.items():
            values.setdefault(name, []).append(value)
    return Pool(calls, values)


def solution(calls: Sequence[WantedCall]) -> Script:
    """Return calls as a script, each in a turn of its own."""
    return tuple(move for call in calls for move in (Move(call.tool, call.parameters), HAND_OVER))


def drawn(play: Play, calls: Sequence[WantedCall], pool: Pool, chance: Random) -> Play:
    """Draw moves and make them: a task's calls and those of others, as they are and spoilt, and made-up ones.

    Args:
        play: just begun; its world says which tools there are.
        calls: of the task.

    Raises:
        RolloutError: the tools are none that a call could be made from.
    """
    while len(play.moves) < MOVES:
        with failing_as("world", "Making a call from the tools"):
            move = _drawn_move(play.world.tools, calls, pool, chance)
        play.make(move)
    return play


def _drawn_move(tools: Sequence[Tool], calls: Sequence[WantedCall], pool: Pool, chance: Random) -> Move:
    kind = chance.random()
    if kind < 0.25:
        return HAND_OVER
    if kind < 0.5 and calls:
        return _move(chance.choice(calls))
    if kind < 0.85 and pool.calls:
        borrowed = _move(chance.choice(calls if calls and kind < 0.65 else pool.calls))
        return borrowed if kind >= 0.75 else _spoilt(borrowed, pool, chance)
    if not tools or kind > 0.97:
        return Move("no_such_tool")
    tool = chance.choice(tools)
    required = tool.parameters.get("required", ())
    names = [name for name in tool.properties if name in required or chance.random() < 0.5]
    return Move(tool.name, {name: _value(name, tool.properties[name], pool, chance) for name in names})


def _move(call: WantedCall) -> Move:
    return Move(call.tool, call.parameters)


def _spoilt(move: Move, pool: Pool, chance: Random) -> Move:
    """Drop an argument, change its value or its type, or add one that there is not."""
    arguments = dict(move.arguments)
    if not arguments or (name := chance.choice([*arguments, ""])) == "":
        return replace(move, arguments=arguments | {"no_such_parameter": "x"})
    value = arguments.pop(name)
    changed: list[dict[str, Any]] = [{}, {name: chance.choice(pool.values.get(name, [value]))}, {name: [value]}]
    return replace(move, arguments=arguments | chance.choice(changed))


def _value(name: str, schema: Mapping[str, Any], pool: Pool, chance: Random) -> Any:
    """Return what tasks pass as a parameter, or make up what its schema asks for."""
    if name in pool.values and chance.random() < 0.5:
        return chance.choice(pool.values[name])
    return _made_up(schema, chance)


def _made_up(schema: Mapping[str, Any], chance: Random) -> Any:
    if schema.get("enum"):
        return chance.choice(schema["enum"])
    kind = schema.get("type", "string")
    kinds: Mapping[str, Any] = {
        "integer": chance.randrange(10),
        "number": chance.randrange(100) / 10,
        "boolean": chance.random() < 0.5,
        "array": [],
        "object": {},
        "null": None,
    }
    return kinds.get(kind[0] if isinstance(kind, list) and kind else str(kind), chance.choice(["a", "1", ""]))


def spread(tasks: Sequence[T], number: int) -> list[T]:
    """Draw tasks by their ids, in turn from each kind and role, so that each has some where the number allows it."""
    groups: dict[tuple[int, str], list[T]] = {}
    for task in sorted(tasks, key=lambda one: content_id("checked", one.goal_id)):
        groups.setdefault((ROLES.index(task.role), task.kind), []).append(task)
    in_turn = sorted((place, key) for key, group in groups.items() for place in range(len(group)))
    return [groups[key][place] for place, key in in_turn[:number]]
