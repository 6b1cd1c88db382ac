"""A user who reads from a task's script, and the scripted agent that serves it.

Both are pure functions of the task, the seed and the conversation so far.
"""

import json
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from josh_pipeline.core.content import content_id, derived_seed
from josh_pipeline.core.environment import Carelessness, WantedCall
from josh_pipeline.core.messages import Conversation
from josh_pipeline.core.policy import Completion, Request
from josh_pipeline.core.user import UserReply
from josh_pipeline.environments.own.tasks import Line

USER_VERSION = 1
"""Raised when the choices of the user change: scores before and after do not compare."""
FAREWELL = "Thank you, goodbye."
GAVE_UP = "Never mind, goodbye."
ASKING = "Could you tell me the {}?"
DONE = "That is done."
DENIED = "Sorry, that is not possible."
SHOWN_VALUES = 3
"""So many values of a result the scripted agent tells: a small model copies few without mistakes."""


class ScriptReader:
    """Says the script's lines in order, but those with a ``when`` where the agent asks for them, then goodbye.

    What was said is said again where the agent asks for it once more.

    Args:
        script: its first line opens the conversation.
        max_turns: the user gives up after this many messages.
    """

    def __init__(self, script: Sequence[Line], max_turns: int) -> None:
        self._script = script
        self._max_turns = max_turns

    async def reply(self, conversation: Conversation) -> UserReply:
        """Answer the visible conversation so far; the empty one gives the opening message."""
        speeches = [message.content for message in conversation if message.role == "assistant"]
        if len(speeches) >= self._max_turns:
            return UserReply(GAVE_UP, done=True)
        told: list[Line] = [self._script[0]]
        for speech in speeches:
            line = self._next(told, speech.lower())
            if line is None:
                return UserReply(FAREWELL, done=True)
            told.append(line)
        return UserReply(told[-1].say, done=False)

    def _next(self, told: Sequence[Line], speech: str) -> Line | None:
        """Choose the line after a speech: what it asks for, the untold first; else the next that waits for no word."""
        untold = [line for line in self._script if line not in told]
        again = [line for line in told if "?" in speech]
        asked = next((line for line in (*untold, *again) if line.when and line.when.lower() in speech), None)
        return asked or next((line for line in untold if not line.when), None)


class Demonstrator:
    """Makes a task's calls once the user has told what they need, and is as careless as it is told to be.

    Implements ``josh_pipeline.core.policy.Policy``, and writes the compact format. The last call is what the user came
    for, so that is what is claimed.

    Args:
        name: of the task, for what is drawn.
        calls: they solve it, in this order.
    """

    digest = content_id("demonstrator")

    def __init__(
        self, name: str, script: Sequence[Line], calls: Sequence[WantedCall], careless: Carelessness, seed: int
    ) -> None:
        self._held = [line for line in script if line.when]
        self._calls = calls
        self._careless = careless
        self._seed = derived_seed("demonstrator", name, seed)

    async def complete(self, request: Request) -> Completion:
        """Write the next call or sentence."""
        return Completion(self._write(request.messages))

    async def close(self) -> None:
        """Nothing is held."""

    def _write(self, messages: Conversation) -> str:
        made = sum(bool(message.tool_calls) for message in messages)
        last = messages[-1]
        if last.role == "tool" and (last.error or self._draw("denied", made) < self._careless.denied):
            return DENIED
        if made == len(self._calls):
            return telling(json.loads(last.content)) if last.role == "tool" else DONE
        call = self._calls[made]
        told = " ".join(message.content for message in messages if message.role in ("user", "tool")).lower()
        values = [str(value).lower() for value in call.parameters.values()]
        for line in self._held:
            if any(value in line.say.lower() and value not in told for value in values):
                return ASKING.format(line.when)
        if made == len(self._calls) - 1 and self._draw("claimed") < self._careless.claimed:
            return DONE
        parameters = dict(call.parameters)
        if len(parameters) > 1 and self._draw("dropped", made) < self._careless.dropped:
            parameters.pop(Random(derived_seed(self._seed, "which", made)).choice(list(parameters)))
        return json.dumps({"name": call.tool, "parameters": parameters}, ensure_ascii=False)

    def _draw(self, *what: Any) -> float:
        return Random(derived_seed(self._seed, *what)).random()


def telling(result: Any) -> str:
    """Say what a call gave."""
    if not isinstance(result, Mapping):
        return f"Done: {result}." if isinstance(result, str | int | float) else DONE
    plain = [f"{name} {value}" for name, value in result.items() if isinstance(value, str | int | float)]
    return f"Done: {', '.join(plain[:SHOWN_VALUES])}." if plain else DONE
