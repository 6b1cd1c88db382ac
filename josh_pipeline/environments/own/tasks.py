"""Tasks of a class of one's own: from a file of JSON lines, or from what the class lists."""

import inspect
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from josh_pipeline.core.content import content_id, storable
from josh_pipeline.core.environment import ROLES, Task, WantedCall, drawn_role
from josh_pipeline.core.errors import UserError, at_fault, quoted

TEXTS = ("id", "role", "kind", "message", "text")
"""Keys of a task that are texts; ``script`` and ``calls`` are lists, and all other keys are for ``reset``."""


@dataclass(frozen=True)
class Line:
    """Something that a user says.

    Attributes:
        say: the words.
        when: the user says it once the agent's words hold this one; empty: when its turn has come.
    """

    say: str
    when: str = ""


@dataclass(frozen=True)
class OwnTask(Task):
    """A task of a class of one's own; its milestones are no calls.

    Attributes:
        given: what ``reset`` gets.
        script: what the user says.
        solution: calls that solve it, in order; empty where the task lists none.
        role_drawn: it names no role.
    """

    given: Mapping[str, Any]
    script: tuple[Line, ...]
    solution: tuple[WantedCall, ...]
    role_drawn: bool


def read_tasks(cls: type, file: Path | None) -> list[OwnTask]:
    """Read the tasks of a class.

    Args:
        file: of JSON lines, each a task; None: what the class says as ``tasks``: the path of such a file, from the
            folder of the class, a list, or a class method that gives one.

    Raises:
        UserError: there are none, or one of them is none; its place is named.
    """
    tasks: list[OwnTask] = []
    places: dict[str, str] = {}
    for place, record in _records(cls, file):
        task = _task(place, record)
        if task.source_id in places:
            raise UserError(
                f"{place} has the id {quoted(task.source_id)} of {places[task.source_id]}: give each task its own id."
            )
        places[task.source_id] = place
        tasks.append(task)
    if not tasks:
        raise UserError(f"{cls.__name__} has no tasks: name a file of JSON lines in the setting tasks, or list them.")
    return tasks


def _records(cls: type, file: Path | None) -> Iterator[tuple[str, Any]]:
    said = getattr(cls, "tasks", None)
    if file is None and isinstance(said, str):
        file = Path(inspect.getfile(cls)).parent / said
    if file is not None:
        yield from _lines(file)
        return
    if inspect.isfunction(inspect.getattr_static(cls, "tasks", None)):
        raise UserError(f"tasks of {cls.__name__} needs an instance: make it a class method.")
    with at_fault(f"{cls.__name__}.tasks"):
        listed = list(said() if callable(said) else said or ())
    yield from ((f"Task {number} of {cls.__name__}", record) for number, record in enumerate(listed, start=1))


def _lines(file: Path) -> Iterator[tuple[str, Any]]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) else "it is no UTF-8"
        raise UserError(f"{file} cannot be read ({reason}): name a file of tasks, a JSON object a line.") from None
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            yield f"Line {number} of {file.name}", json.loads(line)
        except (ValueError, RecursionError) as fault:
            raise UserError(f"Line {number} of {file.name} is not JSON ({fault}): mend it.") from None


def _task(place: str, record: Any) -> OwnTask:
    if not isinstance(record, Mapping) or not all(isinstance(key, str) for key in record):
        raise UserError(f"{place} is no task: write an object of names and values.")
    values = dict(record)
    try:
        kept = storable(json.loads(json.dumps(values, allow_nan=False)))
    except (TypeError, ValueError, RecursionError):
        kept = False
    if not kept:
        raise UserError(f"{place} holds what JSON cannot: use text, numbers, lists and mappings with text keys.")
    goal_id = content_id("own task", values)
    said = {name: values.pop(name, None) for name in TEXTS}
    if odd := [name for name, value in said.items() if not isinstance(value, str | None)]:
        raise UserError(f"{place} has a {odd[0]} that is no text: write one.")
    source_id = said["id"] or goal_id
    role = said["role"] or drawn_role(source_id)
    if role not in ROLES:
        raise UserError(f"{place} has the role {quoted(role)}: use {', '.join(ROLES)}.")
    script = _script(place, values.pop("script", None), said["message"], said["text"])
    calls = values.pop("calls", ())
    if not isinstance(calls, list | tuple) or not all(_is_call(one) for one in calls):
        raise UserError(
            f'{place} has calls of another form than [{{"tool": ..., "arguments": {{...}}}}, ...]: mend it.'
        )
    return OwnTask(
        goal_id=goal_id,
        source_id=source_id,
        split="",
        role=role,
        kind="task",
        title=" ".join(filter(None, (said["kind"] or "Task", source_id))),
        message=(said["text"],) if said["text"] else tuple(line.say for line in script),
        calls=(),
        excluded=None,
        given=values,
        script=script,
        solution=wanted(calls),
        role_drawn=said["role"] is None,
    )


def _script(place: str, listed: Any, message: str | None, text: str | None) -> tuple[Line, ...]:
    """Read what the user says; without a script the message alone, and without that the text."""
    if listed is not None and message is not None:
        raise UserError(f"{place} has a script and a message: let the script begin with the message.")
    lines = [message or text or ""] if listed is None else listed
    if not isinstance(lines, list | tuple) or not all(_is_line(one) for one in lines):
        raise UserError(
            f'{place} has a script of another form than [text, {{"say": text, "when": word}}, ...]: mend it.'
        )
    script = tuple(Line(one) if isinstance(one, str) else Line(**one) for one in lines)
    if not script or script[0].when or not script[0].say:
        raise UserError(f"{place} lets the user begin with nothing: give message, text, or a script that begins.")
    return script


def _is_line(one: Any) -> bool:
    if isinstance(one, Mapping):
        return one.keys() <= {"say", "when"} and "say" in one and all(isinstance(v, str) and v for v in one.values())
    return isinstance(one, str)


def _is_call(one: Any) -> bool:
    return (
        isinstance(one, Mapping)
        and one.keys() == {"tool", "arguments"}
        and isinstance(one["tool"], str)
        and isinstance(one["arguments"], Mapping)
    )


def wanted(calls: Iterable[Any]) -> tuple[WantedCall, ...]:
    """Return listed calls, each ``{"tool", "arguments"}``."""
    return tuple(WantedCall(one["tool"], dict(one["arguments"])) for one in calls)


def solution_of(said: Any) -> tuple[WantedCall, ...]:
    """Read what ``demonstration`` gave.

    Raises:
        UserError: it is no list of calls.
    """
    if not isinstance(said, Sequence) or not all(_is_call(one) for one in said):
        raise UserError('demonstration gave another form than [{"tool": ..., "arguments": {...}}, ...]: mend it.')
    return wanted(said)
