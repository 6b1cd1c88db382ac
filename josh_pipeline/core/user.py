"""The interface of a simulated user."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from josh_pipeline.core.errors import RolloutError, failing_as
from josh_pipeline.core.messages import Conversation


@dataclass(frozen=True)
class UserReply:
    """What the user does next.

    Attributes:
        text: what the user says; when ``done`` it is a farewell that may be empty.
        done: the user ends the conversation; the agent is not asked again.
    """

    text: str
    done: bool


class User(Protocol):
    """A user with one goal. Every call gets the whole visible conversation, so forks need no state."""

    async def reply(self, conversation: Conversation) -> UserReply:
        """Answer the visible conversation so far; the empty one gives the opening message.

        Raises:
            RolloutError: kind ``user`` (or endpoint, timeout) where no answer can be had.
        """
        ...


@dataclass(frozen=True)
class AbsentUser:
    """Implements ``User`` for one that could not be made: the conversation fails where it would speak."""

    fault: RolloutError

    async def reply(self, conversation: Conversation) -> UserReply:
        """Fail as the making did."""
        raise RolloutError(self.fault.kind, self.fault.message)


async def answered(user: User, conversation: Conversation) -> UserReply:
    """Return what a user answers the visible conversation.

    Raises:
        RolloutError: no answer can be had, or it is no ``UserReply`` with a text.
    """
    with failing_as("user", "The user"):
        reply = await user.reply(conversation)
    if not isinstance(reply, UserReply) or not isinstance(reply.text, str):
        raise RolloutError("user", f"The user gave a {type(reply).__name__}, and no UserReply with a text.")
    return reply


def seated(make: Callable[[], User]) -> User:
    """Make the user of one conversation; what breaks in it ends that conversation, and no other."""
    try:
        with failing_as("user", "Making the user"):
            return make()
    except RolloutError as fault:
        return AbsentUser(fault)
