"""The interface of a simulated user."""

from dataclasses import dataclass
from typing import Protocol

from josh_pipeline.dialogue.messages import Conversation


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
