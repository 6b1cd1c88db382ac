"""Scripted conversations: they teach a small model the format, and measure what the user lets anybody reach.

Demonstrations have errors put in on purpose (see ``Carelessness``), which leave something for the reward to
filter: a model trained on clean ones errs in format and copying, which a search can hardly mend. Whoever
shows numbers of a model started this way says that the carelessness was injected.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from josh_pipeline.core.content import derived_seed
from josh_pipeline.core.environment import Carelessness, Environment, T
from josh_pipeline.core.messages import Conversation
from josh_pipeline.core.policy import Sampling
from josh_pipeline.core.world import judged
from josh_pipeline.dialogue.agents import CompactAgent
from josh_pipeline.dialogue.conversation import converse

MAX_REQUESTS = 3
SAMPLING = Sampling(temperature=0.0, max_tokens=256)
"""The scripted agent ignores it."""
CAREFUL = Carelessness()


@dataclass(frozen=True)
class Demonstration:
    """One scripted conversation.

    Attributes:
        goal_id, source_id: what it is about.
        conversation: the compact agent's system message, then everything that was said and called.
        reward: in [0, 1]; about half of the careless conversations reach 1.
    """

    goal_id: str
    source_id: str
    conversation: Conversation
    reward: float


@dataclass(frozen=True)
class Ceiling:
    """What the careful scripted agent reached.

    Attributes:
        n: tasks played.
        full_reward: tasks with reward 1.
        failures: ids of the other tasks, in order.
    """

    n: int
    full_reward: int
    failures: tuple[str, ...]

    @property
    def share(self) -> float:
        """``full_reward / n``; 0.0 where there is no task."""
        return self.full_reward / self.n if self.n else 0.0


async def demonstrate(
    environment: Environment[T], tasks: Sequence[T], careless: Carelessness, seed: int, max_turns: int
) -> list[Demonstration]:
    """Write one demonstration a task, in the order of the tasks; none where nobody can script them.

    Args:
        careless: how careless the scripted agent is.
        seed: with the task it fixes user and agent.
        max_turns: the user gives up after this many messages.
    """
    demonstrations = []
    for task in tasks:
        played = await _played(environment, task, careless, seed, max_turns, 2 * max_turns, MAX_REQUESTS)
        if played is None:
            return []
        messages, reward = played
        told = CompactAgent("compact").system(environment.world(task))
        demonstrations.append(Demonstration(task.goal_id, task.source_id, (told, *messages), reward))
    return demonstrations


async def user_ceiling(
    environment: Environment[T],
    tasks: Sequence[T],
    seed_of: Callable[[T], int],
    *,
    max_turns: int,
    max_messages: int,
    max_requests: int,
) -> Ceiling | None:
    """Play every task once with an agent that understands the rule-based user perfectly.

    Args:
        seed_of: with the task it fixes the user.
        max_turns: the user gives up after this many messages.
        max_messages, max_requests: of a conversation, and of one agent turn.

    Returns:
        None where the environment has no such agent.
    """
    failures = []
    for task in tasks:
        played = await _played(environment, task, CAREFUL, seed_of(task), max_turns, max_messages, max_requests)
        if played is None:
            return None
        if played[1] < 1.0:
            failures.append(task.goal_id)
    return Ceiling(len(tasks), len(tasks) - len(failures), tuple(failures))


async def _played(
    environment: Environment[T],
    task: T,
    careless: Carelessness,
    seed: int,
    max_turns: int,
    max_messages: int,
    max_requests: int,
) -> tuple[Conversation, float] | None:
    """Let the scripted agent talk with the rule-based user; returns what was said, and its reward."""
    world = environment.world(task)
    user = environment.user(task, seed, max_turns)
    demonstrator = environment.demonstrator(task, user, careless, seed)
    if demonstrator is None:
        return None
    talk = await converse(
        demonstrator,
        CompactAgent("compact"),
        user,
        world,
        sampling=SAMPLING,
        max_requests=max_requests,
        max_messages=max_messages,
        seed=lambda turn, request: derived_seed(seed, turn, request),
    )
    if talk.failure is not None:
        raise talk.failure
    return talk.messages, judged(world, talk.messages)
