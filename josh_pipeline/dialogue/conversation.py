"""One conversation from the user's opening to its end, without a search."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from josh_pipeline.dialogue.agents.base import AgentFormat
from josh_pipeline.dialogue.agents.turn import Turn, agent_turn
from josh_pipeline.dialogue.messages import Conversation, Message, visible
from josh_pipeline.dialogue.users.base import User
from josh_pipeline.policies.policy import Policy, Sampling
from josh_pipeline.world import World


@dataclass(frozen=True)
class Talk:
    """A finished conversation.

    Attributes:
        messages: everything, internal messages included, without the system message.
        turns: the agent's turns, in order.
        user_done: the user ended it; else the limit on visible messages did.
    """

    messages: Conversation
    turns: tuple[Turn, ...]
    user_done: bool


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

    Args:
        world: changes with the calls; afterwards it holds what was earned.
        seed: the seed of a request, by (turn, position in the turn).

    Raises:
        RolloutError: the policy or the user could not answer.
    """
    messages: Conversation = ()
    turns: list[Turn] = []
    while True:
        reply = await user.reply(visible(messages))
        if reply.text:
            messages += (Message(role="user", content=reply.text),)
        if reply.done or len(visible(messages)) >= max_messages:
            return Talk(messages, tuple(turns), reply.done)
        position = len(turns)
        turn = await agent_turn(
            policy,
            agent,
            world,
            messages,
            sampling=sampling,
            max_requests=max_requests,
            seed=partial(seed, position),
        )
        messages += turn.messages
        turns.append(turn)
        if len(visible(messages)) >= max_messages:
            return Talk(messages, tuple(turns), user_done=False)
