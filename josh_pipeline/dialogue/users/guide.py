"""The guide user: the goal user, coached each turn by an LLM that sees the real dialogue."""

from josh_pipeline.corpus.records import Dialogue
from josh_pipeline.dialogue.messages import Conversation, Message
from josh_pipeline.dialogue.users.base import UserReply
from josh_pipeline.dialogue.users.goal import wishes
from josh_pipeline.dialogue.users.model import END_MARK, ask, ended, flipped, transcript
from josh_pipeline.dialogue.users.script import words
from josh_pipeline.ids import content_id, derived_seed
from josh_pipeline.policies.policy import Policy
from josh_pipeline.toolwoz.goal import Goal

GUIDE_PROMPT = f"""You coach a customer who talks to an agent. What the customer wants:
{{wishes}}
A real conversation about the same wishes went like this:
{{real}}
You are shown the customer's conversation so far. Say in one sentence what the customer should say next \
so that it goes as the real one did, with the exact values. Say {END_MARK} when all wishes are settled."""

USER_PROMPT = f"""You are a customer who talks to an agent that finds and books places and trains.
What you want:
{{wishes}}
Your coach says: {{advice}}
Follow the coach. Write only your next message, as the customer, in one or two sentences.
When the coach says that all is settled, write {END_MARK} and nothing else."""

PROMPT_DIGEST = content_id(GUIDE_PROMPT, USER_PROMPT)
"""Names the wording; scores under different wordings are not comparable."""


class GuideUser:
    """Implements ``User`` with a model behind a policy; two requests a reply; keeps no state."""

    def __init__(self, policy: Policy, goal: Goal, dialogue: Dialogue, seed: int) -> None:
        self._policy = policy
        self._wishes = wishes(goal)
        self._guide = GUIDE_PROMPT.format(wishes=self._wishes, real=real_transcript(dialogue))
        self._seed = derived_seed("guide user", goal.goal_id, seed)

    async def reply(self, conversation: Conversation) -> UserReply:
        """Answer the visible conversation so far; the empty one gives the opening message."""
        so_far = transcript(conversation) or "(nothing was said yet)"
        turn = len(conversation)
        question = (Message(role="user", content=so_far),)
        advice = await ask(self._policy, self._guide, question, derived_seed(self._seed, "guide", turn))
        system = USER_PROMPT.format(wishes=self._wishes, advice=advice)
        seed = derived_seed(self._seed, "user", turn)
        return ended(await ask(self._policy, system, flipped(conversation), seed))


def real_transcript(dialogue: Dialogue) -> str:
    """Return the real dialogue without its odd turns; they alternate, user first."""
    speakers = ("Customer", "Agent")
    said = ((speakers[i % 2], words(turn)) for i, turn in enumerate(dialogue.log))
    return "\n".join(f"{speaker}: {text}" for speaker, text in said if text is not None)
