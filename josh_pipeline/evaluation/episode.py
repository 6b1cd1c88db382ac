"""An evaluated conversation: one goal, one user, one policy, no search."""

import time
from dataclasses import dataclass

from josh_pipeline.dialogue.agents.base import AgentFormat
from josh_pipeline.dialogue.conversation import converse
from josh_pipeline.dialogue.messages import Conversation
from josh_pipeline.dialogue.users.base import User
from josh_pipeline.errors import ErrorKind
from josh_pipeline.ids import content_id, derived_seed
from josh_pipeline.policies.policy import Policy, Sampling
from josh_pipeline.search.spending import Account
from josh_pipeline.search.tree import CallRecord, Usage
from josh_pipeline.settings import EvaluationSettings
from josh_pipeline.world import World


@dataclass(frozen=True)
class Episode:
    """A finished conversation and what it was worth.

    Attributes:
        episode_id: content hash of (policy digest, goal id, seed, settings digest).
        goal_id, policy_digest, seed, settings_digest: what was played.
        trial: 0, 1, ... where a goal is played several times.
        messages: everything up to the end or the failure, internal messages included, without the system
            message.
        calls: executed calls, in order.
        earned: milestones of the goal that were earned.
        reward: the world's outcome.
        turns: the agent's turns; one that a failure cut short counts.
        error_turns: those that used their requests up without speaking.
        user_done: the user ended the conversation; else the limit on messages, or a failure did.
        failure, failure_message: set where policy or user could not answer.
        usage: what it cost; its seconds overlap those of the conversations beside it.
    """

    episode_id: str
    goal_id: str
    policy_digest: str
    seed: int
    settings_digest: str
    trial: int
    messages: Conversation
    calls: tuple[CallRecord, ...]
    earned: tuple[int, ...]
    reward: float
    turns: int
    error_turns: int
    user_done: bool
    failure: ErrorKind | None
    failure_message: str | None
    usage: Usage

    @property
    def success(self) -> bool:
        """The full reward was earned."""
        return self.reward == 1.0


def episode_id(policy_digest: str, goal_id: str, seed: int, settings_digest: str) -> str:
    """Return the id of the conversation that these inputs give."""
    return content_id("episode", policy_digest, goal_id, seed, settings_digest)


async def play(
    goal_id: str,
    *,
    world: World,
    user: User,
    policy: Policy,
    account: Account,
    agent: AgentFormat,
    settings: EvaluationSettings,
    settings_digest: str,
    seed: int,
    trial: int,
) -> Episode:
    """Hold one greedy conversation; a failure of policy or user is kept in the episode, not raised.

    Args:
        goal_id: names the goal.
        world: fresh; it changes with the calls.
        account: counts what policy and user ask of their models.
        seed: of this conversation; seeds of requests derive from it and their place.
    """
    begin = time.monotonic()
    talk = await converse(
        policy,
        agent,
        user,
        world,
        sampling=Sampling(temperature=0.0, max_tokens=settings.max_tokens),
        max_requests=settings.max_requests,
        max_messages=settings.max_messages,
        seed=lambda turn, request: derived_seed(seed, turn, request),
    )
    return Episode(
        episode_id=episode_id(policy.digest, goal_id, seed, settings_digest),
        goal_id=goal_id,
        policy_digest=policy.digest,
        seed=seed,
        settings_digest=settings_digest,
        trial=trial,
        messages=talk.messages,
        calls=tuple(call for turn in talk.turns for call in turn.calls),
        earned=tuple(sorted(world.milestones())),
        reward=world.outcome(talk.messages),
        turns=len(talk.turns),
        error_turns=sum(turn.error_turn for turn in talk.turns),
        user_done=talk.user_done,
        failure=talk.failure.kind if talk.failure else None,
        failure_message=talk.failure.message if talk.failure else None,
        usage=account.usage(time.monotonic() - begin),
    )
