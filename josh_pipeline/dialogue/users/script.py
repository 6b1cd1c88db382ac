"""The script user: replays the real dialogue's user turns, whatever the agent says."""

from collections.abc import Mapping
from typing import Any

from josh_pipeline.corpus.records import Dialogue
from josh_pipeline.dialogue.messages import Conversation
from josh_pipeline.dialogue.users.base import UserReply
from josh_pipeline.errors import RolloutError


class ScriptUser:
    """Implements ``User`` without listening; done with the dialogue's last user turn.

    Turns without words are left out.

    Raises:
        RolloutError: kind ``user``: the dialogue has none with words.
    """

    def __init__(self, dialogue: Dialogue) -> None:
        lines = (words(turn) for turn in dialogue.log[::2])
        self._lines = tuple(line for line in lines if line is not None)
        if not self._lines:
            raise RolloutError("user", f"Dialogue {dialogue.dialogue_id} holds no words to repeat.")

    async def reply(self, conversation: Conversation) -> UserReply:
        """Say the next line."""
        said = sum(message.role == "user" for message in conversation)
        if said >= len(self._lines):
            return UserReply(text="", done=True)
        return UserReply(text=self._lines[said], done=said == len(self._lines) - 1)


def words(turn: Mapping[str, Any]) -> str | None:
    """Return what was said in a turn; None where the record of it is odd: the reader keeps those too."""
    text = turn.get("text")
    return text.strip() if isinstance(text, str) else None
