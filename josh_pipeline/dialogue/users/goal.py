"""The goal user: an LLM that is given the goal's instructions and tells them piecemeal."""

from josh_pipeline.dialogue.messages import Conversation
from josh_pipeline.dialogue.users.base import UserReply
from josh_pipeline.dialogue.users.model import END_MARK, ask, ended, flipped
from josh_pipeline.ids import content_id, derived_seed
from josh_pipeline.policies.policy import Policy
from josh_pipeline.toolwoz.goal import Goal

PROMPT = f"""You are a customer who talks to an agent that finds and books places and trains.
What you want:
{{wishes}}
Write only your next message, as the customer.
- Tell one or two things at a time, with the exact values, and answer what you are asked.
- If something is not available, go on as the instructions say.
- Do not invent wishes, and never act as the agent.
- When everything is found and booked, or cannot be, write {END_MARK} and nothing else."""

PROMPT_DIGEST = content_id(PROMPT)
"""Names the wording; scores under different wordings are not comparable."""


def wishes(goal: Goal) -> str:
    """Return the goal's instructions, one a line."""
    return "\n".join(f"- {line}" for line in goal.message)


class GoalUser:
    """Implements ``User`` with a model behind a policy; keeps no state."""

    def __init__(self, policy: Policy, goal: Goal, seed: int) -> None:
        self._policy = policy
        self._system = PROMPT.format(wishes=wishes(goal))
        self._seed = derived_seed("goal user", goal.goal_id, seed)

    async def reply(self, conversation: Conversation) -> UserReply:
        """Answer the visible conversation so far; the empty one gives the opening message."""
        seed = derived_seed(self._seed, len(conversation))
        return ended(await ask(self._policy, self._system, flipped(conversation), seed))
