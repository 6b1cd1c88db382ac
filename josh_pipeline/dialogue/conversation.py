"""One conversation from the user's opening to its end, without a search."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from josh_pipeline.core.errors import RolloutError, failing_as
from josh_pipeline.core.messages import Conversation, Message, visible
from josh_pipeline.core.policy import Policy, Sampling
from josh_pipeline.core.user import User
from josh_pipeline.core.world import World
from josh_pipeline.dialogue.agent import AgentFormat
from josh_pipeline.dialogue.turn import Turn, TurnError, agent_turn


@dataclass(frozen=True)
class Talk:
    """A conversation that has ended.

    Attributes:
        messages: everything, internal messages included, without the system message.
        turns: the agent's turns, in order; where the policy failed, the last one was cut short.
        user_done: the user ended it; else the limit on visible messages did, or a failure.
        failure: the policy or the user could not answer.
    """

    messages: Conversation
    turns: tuple[Turn, ...]
    user_done: bool
    failure: RolloutError | None = None


async def converse(
    policy: Policy,
    agent: AgentFormat,
    user: User,
    world: World,
    *,
    sampling: Sampling,
    max_requests: int,
    max_messages: int,
    seed: Callable[[int, int], int],
) -> Talk:
    """Let user and agent talk, user first, until the user is done or ``max_messages`` were visible.

    A failure of policy or user ends the conversation too; what was said and done before it is kept.

    Args:
        world: changes with the calls; afterwards it holds what was earned.
        seed: the seed of a request, by (turn, position in the turn).
    """
    messages: Conversation = ()
    turns: list[Turn] = []
    while True:
        try:
            with failing_as("user", "The user"):
                reply = await user.reply(visible(messages))
        except RolloutError as fault:
            return Talk(messages, tuple(turns), user_done=False, failure=fault)
        if reply.text:
            messages += (Message(role="user", content=reply.text),)
        if reply.done or len(visible(messages)) >= max_messages:
            return Talk(messages, tuple(turns), reply.done)
        position = len(turns)
        failure: RolloutError | None = None
        try:
            turn = await agent_turn(
                policy,
                agent,
                world,
                messages,
                sampling=sampling,
                max_requests=max_requests,
                seed=partial(seed, position),
            )
        except TurnError as cut:
            turn, failure = cut.turn, cut
        messages += turn.messages
        turns.append(turn)
        if failure is not None:
            return Talk(messages, tuple(turns), user_done=False, failure=failure)
        if len(visible(messages)) >= max_messages:
            return Talk(messages, tuple(turns), user_done=False)
