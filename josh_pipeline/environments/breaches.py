"""Where an environment breaks what it promises, each in a sentence: in a play, in forks, in its tools, in its user."""

import asyncio
import json
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from josh_pipeline.core.content import canonical_json, derived_seed
from josh_pipeline.core.environment import Environment, T
from josh_pipeline.core.errors import RolloutError, failing_as
from josh_pipeline.core.messages import Conversation, Message
from josh_pipeline.core.user import User, UserReply, answered
from josh_pipeline.environments.plays import SPEECH, Play, Script, difference, shortened

ANSWERS = ("How can I help you?", "I found nothing. What else would do?", SPEECH, "Your reference is 0001.")
"""What the user hears, one after another."""
MAX_TURNS = 8
TIMED_FORKS, TIMED_SECONDS = 20, 0.1
"""So many forks are timed together, or as many as take so long."""


def play_breaches(play: Play) -> Iterator[tuple[str, str]]:
    """Find what one play shows to be broken: name of the promise, and a sentence."""
    yield from play.faults
    for move, (before, after) in zip(play.moves, pairwise((play.start, *play.shown)), strict=True):
        if lost := set(before.get("milestones", ())) - set(after.get("milestones", ())):
            yield "milestones", f"{move} took milestone {min(lost)} away: what was earned has to stay earned."
        if before.get("void") and not after.get("void"):
            yield "void", f"after {move} the world is no longer void: what is void has to stay so."
        if move.tool is not None and before.get("tools") != after.get("tools"):
            yield "tools", f"{move} changed the tools: they may change at the end of a turn, at no other time."
    for move, shown in zip(play.moves, play.shown, strict=True):
        if stray := set(shown.get("milestones", ())) - set(shown.get("all milestones", ())):
            yield "milestones", f"after {move} milestone {min(stray)} is earned, and is none of all_milestones."
        if shown.get("void") and shown.get("reward") == 1.0:
            yield (
                "void",
                f"after {move} the world is void and its outcome is 1.0: nothing can be earned in a void one.",
            )


def repeat_breach(play: Play, again: Play) -> str | None:
    """Say where a second play of the same moves shows something else."""
    told = "let its worlds keep no clock, no random number, and nothing that they share"
    return _differing(play, again, "the first time", "the second", told)


def asking_breach(play: Play, quiet: Play) -> str | None:
    """Say where the same moves show something else when nothing is asked between them."""
    here, there = "where milestones, void and outcome are asked for after each move", "where they are not"
    return _differing(play, quiet, here, there, "let asking change nothing")


def fork_breaches(fresh: Callable[[], Play], one: Script, other: Script) -> Iterator[str]:
    """Fork in the middle of a script, go on with another in two forks, and hold all to plays without a fork.

    One fork goes on before the world that it was taken from, and a fork of the other one after it.

    Raises:
        RolloutError: the world cannot be forked.
    """
    stem, rest = one[: len(one) // 2], one[len(one) // 2 :]
    straight, anew = fresh().make(*one), fresh().make(*stem, *other)
    origin = fresh().fork().make(*stem)
    early, late = origin.fork(), origin.fork()
    early.make(*other)
    origin.make(*rest)
    late = late.fork().make(*other)
    done_anew, mend = "in a world in which the same was done anew", "let fork() copy all that moves change"
    for fork, where in ((early, "in a fork"), (late, "in a fork whose origin has gone on")):
        if breach := _differing(fork, anew, where, done_anew, mend):
            yield breach
    if breach := _differing(origin, straight, "where a fork was taken and played on", "where none was", mend):
        yield breach


def _differing(one: Play, other: Play, here: str, there: str, mend: str) -> str | None:
    found = difference(one, other)
    return f"{found[0]} is {found[1]} {here}, and {found[2]} {there}: {mend}." if found else None


def tool_breaches(plays: Sequence[Play]) -> Iterator[str]:
    """Find what agents and endpoints could not read of the tools that were shown in plays."""
    listed = (tool for play in plays for shown in (play.start, *play.shown) for tool in shown.get("tools", {}).items())
    for tool in sorted({canonical_json(tool) for tool in listed}):
        yield from _unreadable(tool)


@cache
def _unreadable(tool: str) -> tuple[str, ...]:
    """Find what could not be read of one tool: name, description and schema as JSON, for many tasks have the same."""
    # Imported where it is used: most commands that read this module look at no schema.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    name, (description, schema) = json.loads(tool)
    found = []
    if not (isinstance(description, str) and description.strip()):
        found.append(f"Tool {name} has no description: say in one sentence what it does.")
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as fault:
        place = ".".join(map(str, fault.absolute_path)) or "its top"
        found.append(f"The parameters of tool {name} are no JSON Schema at {place}: {shortened(fault.message)}.")
        return tuple(found)
    if schema.get("type") != "object":
        found.append(f"The parameters of tool {name} have the type {shortened(schema.get('type'))}: make it object.")
    if unknown := [one for one in schema.get("required", ()) if one not in schema.get("properties", {})]:
        found.append(f"Tool {name} requires {unknown[0]!r}, which is none of its properties: add it, or leave it out.")
    return tuple(found)


def user_breach(environment: Environment[T], task: T) -> str | None:
    """Say where the user of a task answers a conversation otherwise when it is asked again, or another one is."""
    try:
        return asyncio.run(_user_breach(lambda: environment.user(task, derived_seed("check", task.goal_id), MAX_TURNS)))
    except RolloutError as fault:
        return fault.message


async def _user_breach(make: Callable[[], User]) -> str | None:
    with failing_as("user", "Making the user"):
        user, other = make(), make()
    heard: list[tuple[Conversation, UserReply]] = []
    conversation: Conversation = ()
    for answer in ANSWERS:
        reply = await answered(user, conversation)
        heard.append((conversation, reply))
        if reply.done:
            break
        conversation += (Message("user", reply.text), Message("assistant", answer))
    for seen, said in reversed(heard):  # from its end: what is asked does not follow on what was asked before
        for who, when in ((user, "when it was asked again"), (other, "from another user of the same seed")):
            again = await answered(who, seen)
            if (again.text, bool(again.done)) != (said.text, bool(said.done)):
                return (
                    f"message {len(seen) // 2 + 1} of the user is {_words(said)}, and {_words(again)} {when}: let it "
                    "depend on task, seed and conversation alone."
                )
    return None


def _words(reply: UserReply) -> str:
    return f"{shortened(reply.text)}{' (and it leaves)' if reply.done else ''}"


@dataclass(frozen=True)
class Cost:
    """What one fork costs.

    Attributes:
        bytes: of memory that Python's allocator gives out for it and that it keeps, as tracemalloc counts them.
    """

    milliseconds: float
    bytes: int


def fork_cost(play: Play) -> Cost:
    """Measure what a fork of a world costs.

    Raises:
        RolloutError: it cannot be forked as it is now.
    """
    started = time.perf_counter()
    play.fork()
    number = max(1, min(TIMED_FORKS, int(TIMED_SECONDS / (time.perf_counter() - started))))
    with failing_as("world", "fork()"):
        started = time.perf_counter()
        for _ in range(number):
            play.world.fork()
        seconds = (time.perf_counter() - started) / number
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            kept = [play.world.fork() for _ in range(number)]
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    return Cost(1000 * seconds, max(0, after - before) // len(kept))
