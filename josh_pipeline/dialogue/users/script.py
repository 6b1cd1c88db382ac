"""The script user: replays the real dialogue's user turns, whatever the agent says."""

from josh_pipeline.corpus.records import Dialogue
from josh_pipeline.dialogue.messages import Conversation
from josh_pipeline.dialogue.users.base import UserReply


class ScriptUser:
    """Implements ``User`` without listening; done with the dialogue's last user turn."""

    def __init__(self, dialogue: Dialogue) -> None:
        self._lines = tuple(turn["text"].strip() for turn in dialogue.log[::2])

    async def reply(self, conversation: Conversation) -> UserReply:
        """Say the next line."""
        said = sum(message.role == "user" for message in conversation)
        if said >= len(self._lines):
            return UserReply(text="", done=True)
        return UserReply(text=self._lines[said], done=said == len(self._lines) - 1)
