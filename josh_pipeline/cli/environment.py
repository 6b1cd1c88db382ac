"""``josh goals``, ``replay`` and ``check-env``: what needs an environment, and of a home no more than its downloads."""

import argparse
import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from pydantic import ValidationError

from josh_pipeline.core.command import cache_of
from josh_pipeline.core.environment import Environment, T
from josh_pipeline.core.errors import RolloutError, UserError, at_fault, failing_as
from josh_pipeline.core.faults import faults_of
from josh_pipeline.core.messages import Message
from josh_pipeline.core.progress import TerminalProgress
from josh_pipeline.core.promises import kept_tasks
from josh_pipeline.core.world import called
from josh_pipeline.environments.check import Checked, check_environment
from josh_pipeline.environments.registry import DEFAULT, environment_class

SETTING_OF = {"corpus": ("corpus", "source"), "semantics": ("goals", "semantics")}
"""Option to the setting of the environment that it is laid over; an environment need not have it."""

CLOCK_SECONDS = 1.1
"""What passes before all is played once more by ``josh check-env``: a clock of whole seconds has gone on then."""


def goals(options: argparse.Namespace) -> int:
    """Print the tasks of an environment, or of one list of its source."""
    for record in goal_records(environment_of(options), options.split):
        print(json.dumps(record))
    return 0


def replay(options: argparse.Namespace) -> int:
    """Play recorded lines, as they come, and say at the end how many could not be; 1 then, if that is asked for."""
    environment = environment_of(options)
    if options.calls == "-":
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(encoding="utf-8", errors="replace")  # as a file is read
        number, bad = replay_lines(environment, sys.stdin, sys.stdout)
    else:
        try:
            with Path(options.calls).open(encoding="utf-8", errors="replace") as lines:
                number, bad = replay_lines(environment, lines, sys.stdout)
        except (FileNotFoundError, IsADirectoryError, PermissionError) as fault:
            raise UserError(f"{options.calls} cannot be read ({fault.strerror}): give a file of calls.") from None
    if bad:
        print(f"josh: {bad:,} of {number:,} lines could not be replayed: each has its error.", file=sys.stderr)
    return 1 if bad and options.strict else 0


def check_env(options: argparse.Namespace) -> int:
    """Print which promises an environment keeps, a sentence each; 1 where it breaks one."""
    environment = read_environment(options)
    with TerminalProgress() as progress:
        found = check_environment(environment, options.number, progress, pause=CLOCK_SECONDS)
    if options.json:
        print(json.dumps({"environment": options.env, **checked_record(found)}))
    else:
        print("\n".join([f"{options.env}: {played(found)}", *checked_lines(found)]))
    return 0 if found.passed else 1


def checked_record(found: Checked) -> dict[str, Any]:
    """Return what a check found as ``--json`` prints it."""
    return {
        "passed": found.passed,
        "tasks": found.played,
        "scripts": found.scripts,
        "promises": [
            {"name": one.promise.name, "kept": one.passed, "sentence": one.sentence, "faults": one.faults}
            for one in found.findings
        ],
        "not_looked_at": found.unseen,
        "unsolved": found.unsolved,
        "fork": found.fork and asdict(found.fork),
    }


def played(found: Checked) -> str:
    """Say how much was played."""
    roles = ", ".join(f"{role} {number}" for role, number in found.played.items())
    return f"{found.scripts} scripts on {sum(found.played.values())} tasks{roles and f' ({roles})'}"


def checked_lines(found: Checked) -> Iterator[str]:
    """Write a line for each promise, then what a fork costs and which tasks nobody can solve."""
    for one in found.findings:
        yield f"{'ok    ' if one.passed else 'BROKEN'}  {one.promise.name:<10}  {one.sentence}"
    if found.unseen:
        yield f"Not looked at: {', '.join(found.unseen)}."
    if found.unsolved:
        yield f"The oracle does not solve {len(found.unsolved)}: {', '.join(found.unsolved)}."
    if found.fork is not None:
        yield f"A fork takes {found.fork.milliseconds:.3f} ms and {found.fork.bytes:,} bytes (tracemalloc; medians)."


def environment_of(options: argparse.Namespace) -> Environment[Any]:
    """Read the environment that the options name, and hold its tasks to what they promise.

    Raises:
        UserError: there is no such environment, it does not take an option, or its tasks cannot be.
    """
    environment = read_environment(options)
    kept_tasks(environment)
    return environment


def read_environment(options: argparse.Namespace) -> Environment[Any]:
    """Read the environment that the options name, with its own settings but for what they say.

    Raises:
        UserError: there is no such environment, or it does not take an option.
    """
    name = options.env or DEFAULT
    found = environment_class(name)
    values: dict[str, Any] = {"name": name}
    for option, (section, key) in SETTING_OF.items():
        value = getattr(options, option)
        if value is None:
            continue
        if section not in found.Settings.model_fields:
            raise UserError(f"{name} takes no --{option}: leave it out.")
        values[section] = {key: value}
    try:
        settings = found.Settings.model_validate(values)
    except ValidationError as fault:
        raise UserError(f"{name} cannot be played so: {faults_of(fault, found.Settings)}.") from None
    with TerminalProgress() as progress, at_fault(f"Making environment {name}"):
        return found.read(settings, cache_of(options.home), progress)


def goal_records(environment: Environment[T], split: str | None) -> list[dict[str, Any]]:
    """Return what is printed of the tasks of a list, or of all; excluded ones included.

    Raises:
        UserError: no task is on such a list.
    """
    tasks = environment.listed()
    splits = sorted({task.split for task in tasks if task.split})
    if split is not None and split not in splits:
        instead = f"use --split with {' or '.join(splits)}" if splits else "leave --split out"
        raise UserError(f"{environment.settings.shown} has no {split} list: {instead}.")
    return [environment.goal_record(task) for task in tasks if split in (None, task.split)]


def replay_lines(environment: Environment[T], lines: Iterable[str], out: TextIO) -> tuple[int, int]:
    """Replay lines as they come; a line that cannot be replayed is a result, not a failure.

    Args:
        lines: ``{"source_id", "calls": [{"tool", "arguments"}], "replies": [text]}`` as JSON, the id under
            ``Environment.id_name``. Arguments may hold anything; replies may be left out.
        out: gets exactly one line for each: what ``Environment.replay_record`` says, or ``{"line": number
            from 1, "error": text}``.

    Returns:
        How many lines there were, and how many of them could not be replayed.
    """
    number = bad = 0
    for number, line in enumerate(lines, start=1):
        try:
            task, calls, replies = read_line(environment, line)
            with failing_as("world", "The world"):
                answer = json.dumps(replayed(environment, task, calls, replies))
        except (UserError, RolloutError) as fault:
            bad += 1
            answer = json.dumps({"line": number, "error": str(fault)})
        out.write(f"{answer}\n")
    return number, bad


def read_line(environment: Environment[T], line: str) -> tuple[T, Sequence[tuple[Any, Any]], Sequence[str]]:
    """Return the task that a line names, its calls as (tool, arguments), both unchecked, and its replies.

    Raises:
        UserError: it is not JSON of the form that ``replay_lines`` takes, or names no usable task.
    """
    form = f'{{"{environment.id_name}": ..., "calls": [{{"tool": ..., "arguments": ...}}, ...]}}'
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as fault:
        raise UserError(f"The line is not JSON that can be read ({type(fault).__name__}).") from None
    if not isinstance(record, dict):
        raise UserError(f"The line is not an object of the form {form}.")
    name = record.get(environment.id_name, record.get("source_id"))
    calls, replies = record.get("calls"), record.get("replies", [])
    if not isinstance(name, str) or not isinstance(calls, list):
        raise UserError(f"The line is not of the form {form}.")
    task = environment.listed_task(name)
    if not all(isinstance(call, dict) and "tool" in call and "arguments" in call for call in calls):
        raise UserError("A call is not an object with tool and arguments.")
    if not isinstance(replies, list) or not all(isinstance(reply, str) for reply in replies):
        raise UserError("The replies are not a list of texts.")
    return task, [(call["tool"], call["arguments"]) for call in calls], replies


def replayed(
    environment: Environment[T], task: T, calls: Sequence[tuple[Any, Any]], replies: Sequence[str]
) -> dict[str, Any]:
    """Make the calls, then hand over after each reply, and return the answer."""
    world = environment.world(task)
    results = [called(world, tool, arguments).payload for tool, arguments in calls]
    for _ in replies:
        world.hand_over()
    conversation = tuple(Message("assistant", reply) for reply in replies)
    return environment.replay_record(task, world, results, conversation)
