"""The benchmark: every goal played greedily, many conversations at once, each of them checkpointable."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from josh_pipeline.core.content import content_id, derived_seed
from josh_pipeline.core.environment import T
from josh_pipeline.core.errors import ErrorKind, RolloutError, at_fault, failing_as
from josh_pipeline.core.messages import Conversation
from josh_pipeline.core.policy import Policy, Sampling
from josh_pipeline.core.progress import Progress
from josh_pipeline.core.user import User, seated
from josh_pipeline.core.world import CallRecord, World, judged
from josh_pipeline.dialogue.agents import AgentFormat
from josh_pipeline.dialogue.conversation import converse
from josh_pipeline.search.concurrency import LimitedPolicy, Limiter, admitted
from josh_pipeline.search.spending import Ledger, Meter, MeteredPolicy
from josh_pipeline.search.tree import Usage
from josh_pipeline.settings import EvaluationSettings


@dataclass(frozen=True)
class Episode:
    """A finished conversation and what it was worth.

    Attributes:
        episode_id: content hash of (policy digest, goal id, seed, settings digest, retry).
        goal_id, policy_digest, seed, settings_digest: what was played.
        trial: 0, 1, ... where a goal is played several times.
        messages: everything up to the end or the failure, internal messages included, without the system
            message.
        calls: executed calls, in order.
        earned: milestones of the goal that were earned.
        reward: the world's outcome; 0 where it gave none.
        turns: the agent's turns; one that a failure cut short counts.
        error_turns: those that used their requests up without speaking.
        user_done: the user ended the conversation; else the limit on messages, or a failure did.
        failure, failure_message: set where policy or user could not answer, or the world gave no reward.
        usage: what it cost; its seconds overlap those of the conversations beside it.
        retry: how often the same conversation had failed before; 0 the first time.
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
    retry: int = 0

    @property
    def success(self) -> bool:
        """The full reward was earned."""
        return self.reward == 1.0


def episode_id(policy_digest: str, goal_id: str, seed: int, settings_digest: str, retry: int = 0) -> str:
    """Return the id of the conversation that these inputs give.

    Args:
        retry: how often the same conversation had failed before.
    """
    return content_id("episode", policy_digest, goal_id, seed, settings_digest, retry)


def episode_seed(seed: int, goal_id: str, trial: int) -> int:
    """Seed of a conversation. The policy has no part in it, so policies are compared on the same users."""
    return derived_seed("evaluation", seed, goal_id, trial)


async def evaluate(
    conversations: Sequence[tuple[T, int]],
    make_world: Callable[[T], World],
    make_user: Callable[[T, int, Meter], User],
    policy: Policy,
    agent: AgentFormat,
    settings: EvaluationSettings,
    in_flight: int,
    seed: int,
    progress: Progress,
    *,
    settings_digest: str,
    ledger: Ledger,
    retries: Mapping[tuple[str, int], int] | None = None,
    task: str = "Evaluating",
    finished: Callable[[Episode], None] = lambda episode: None,
) -> list[Episode]:
    """Play goals with a policy at temperature 0.

    Args:
        conversations: goal and trial of each, in the order in which they are begun; trials of a goal differ
            in the user's seed, and no goal is excluded.
        make_world: a fresh world of a goal.
        make_user: the user of a goal, by the conversation's seed; a user's model counts on the meter.
        in_flight: requests at once, over all conversations.
        seed: of the evaluation; with goal and trial it fixes a conversation's seed.
        progress: counts conversations.
        settings_digest: names everything that an episode depends on beside policy, goal and seed.
        ledger: counts what the conversations cost.
        retries: how often a conversation had failed before, by goal and trial; None: none ever did.
        task: the name that progress shows.
        finished: gets each episode as it ends, for a checkpoint; what it raises stops the evaluation.

    Returns:
        The episodes in the order of ``conversations``.
    """
    limiter = Limiter(in_flight)
    episodes: dict[tuple[str, int], Episode] = {}

    async def one(goal: T, trial: int) -> Episode:
        """Hold a conversation; a failure of policy, user or world is kept in the episode, not raised."""
        own, retry = episode_seed(seed, goal.goal_id, trial), (retries or {}).get((goal.goal_id, trial), 0)
        account = ledger.account()
        with at_fault(f"Making the world of goal {goal.goal_id}"):
            world = make_world(goal)
        with limiter.lane() as lane:
            begin = time.monotonic()
            talk = await converse(
                LimitedPolicy(MeteredPolicy(policy, account.agent), lane),
                agent,
                seated(lambda: make_user(goal, own, account.user)),
                world,
                sampling=Sampling(temperature=0.0, max_tokens=settings.max_tokens),
                max_requests=settings.max_requests,
                max_messages=settings.max_messages,
                seed=lambda turn, request: derived_seed(own, turn, request),
            )
        earned, reward, failure = frozenset[int](), 0.0, talk.failure
        try:
            with failing_as("world", "What was earned"):
                earned = world.milestones()
            reward = judged(world, talk.messages)
        except RolloutError as fault:
            failure = failure or fault
        return Episode(
            episode_id=episode_id(policy.digest, goal.goal_id, own, settings_digest, retry),
            goal_id=goal.goal_id,
            policy_digest=policy.digest,
            seed=own,
            settings_digest=settings_digest,
            trial=trial,
            messages=talk.messages,
            calls=tuple(call for turn in talk.turns for call in turn.calls),
            earned=tuple(sorted(earned)),
            reward=reward,
            turns=len(talk.turns),
            error_turns=sum(turn.error_turn for turn in talk.turns),
            user_done=talk.user_done,
            failure=failure.kind if failure else None,
            failure_message=failure.message if failure else None,
            usage=account.usage(time.monotonic() - begin),
            retry=retry,
        )

    def keep(episode: Episode) -> None:
        episodes[episode.goal_id, episode.trial] = episode
        finished(episode)
        progress.advance(task)

    progress.start(task, len(conversations))
    try:
        await admitted((partial(one, goal, trial) for goal, trial in conversations), limiter, keep)
    finally:
        progress.finish(task)
    return [episodes[goal.goal_id, trial] for goal, trial in conversations]
