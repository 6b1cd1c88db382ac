"""The benchmark: every goal played greedily, many conversations at once, each of them checkpointable."""

from collections.abc import Callable, Sequence
from functools import partial

from josh_pipeline.dialogue.agents.base import AgentFormat
from josh_pipeline.dialogue.users.base import User, seated
from josh_pipeline.evaluation.episode import Episode, play
from josh_pipeline.ids import derived_seed
from josh_pipeline.policies.policy import Policy
from josh_pipeline.progress import Progress
from josh_pipeline.search.concurrency import LimitedPolicy, Limiter, admitted
from josh_pipeline.search.spending import Ledger, Meter, MeteredPolicy
from josh_pipeline.settings import EvaluationSettings
from josh_pipeline.toolwoz.goal import Goal
from josh_pipeline.world import World


def episode_seed(seed: int, goal_id: str, trial: int) -> int:
    """Seed of a conversation. The policy has no part in it, so policies are compared on the same users."""
    return derived_seed("evaluation", seed, goal_id, trial)


async def evaluate(
    conversations: Sequence[tuple[Goal, int]],
    make_world: Callable[[Goal], World],
    make_user: Callable[[Goal, int, Meter], User],
    policy: Policy,
    agent: AgentFormat,
    settings: EvaluationSettings,
    in_flight: int,
    seed: int,
    progress: Progress,
    *,
    settings_digest: str,
    ledger: Ledger,
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
        task: the name that progress shows.
        finished: gets each episode as it ends, for a checkpoint; what it raises stops the evaluation.

    Returns:
        The episodes in the order of ``conversations``.
    """
    limiter = Limiter(in_flight)
    episodes: dict[tuple[str, int], Episode] = {}

    async def one(goal: Goal, trial: int) -> Episode:
        conversation_seed = episode_seed(seed, goal.goal_id, trial)
        account = ledger.account()
        with limiter.lane() as lane:
            return await play(
                goal.goal_id,
                world=make_world(goal),
                user=seated(lambda: make_user(goal, conversation_seed, account.user)),
                policy=LimitedPolicy(MeteredPolicy(policy, account.agent), lane),
                account=account,
                agent=agent,
                settings=settings,
                settings_digest=settings_digest,
                seed=conversation_seed,
                trial=trial,
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
