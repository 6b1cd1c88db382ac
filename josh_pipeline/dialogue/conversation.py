"""An agent's turn, and a whole conversation of turns and replies."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from josh_pipeline.core.errors import RolloutError, failing_as
from josh_pipeline.core.messages import Conversation, Message, ends_turn, visible
from josh_pipeline.core.policy import Completion, Policy, Request, Sampling
from josh_pipeline.core.user import User, answered
from josh_pipeline.core.world import CallRecord, ToolResult, World, called
from josh_pipeline.dialogue.agents import ERROR_SENTENCE, AgentFormat


@dataclass(frozen=True)
class Action:
    """One request and what followed from it.

    Attributes:
        messages: the assistant's message, then results or the complaint about its form.
        completion: what was sampled.
        calls: executed calls, in order.
        spoke: the reply ended the turn.
    """

    messages: Conversation
    completion: Completion
    calls: tuple[CallRecord, ...]
    spoke: bool


@dataclass(frozen=True)
class Turn:
    """One agent turn.

    Attributes:
        messages: calls, results, speech, in order.
        completions: what was sampled; one an assistant message, the error sentence excepted.
        calls: executed calls, in order.
        error_turn: the requests were used up without speaking.
    """

    messages: Conversation
    completions: tuple[Completion, ...]
    calls: tuple[CallRecord, ...]
    error_turn: bool


class TurnError(RolloutError):
    """A failure inside a turn, with what the turn did before it.

    Args:
        fault: what happened.
        turn: calls and results up to then; nothing was spoken.
    """

    def __init__(self, fault: RolloutError, turn: Turn) -> None:
        super().__init__(fault.kind, fault.message)
        self.turn = turn


async def agent_action(
    policy: Policy, agent: AgentFormat, world: World, conversation: Conversation, *, sampling: Sampling, seed: int
) -> Action:
    """Make one request and execute its calls in ``world``, which changes.

    Args:
        conversation: everything so far, internal messages included, without the system message.
        seed: of this request.

    Raises:
        RolloutError: the policy could not answer, or a part of the pipeline broke on what it said.
    """
    with failing_as("world", "What the agent is told"):
        told, tools = agent.system(world), agent.schemas(world)
    request = Request(messages=(told, *conversation), tools=tools, sampling=sampling, seed=seed)
    completion = await policy.complete(request)
    with failing_as("parse", "Reading the completion"):
        reply = agent.read(completion)
    if reply.fault is not None:
        return Action((reply.message, agent.fault(reply.fault)), completion, (), spoke=False)
    records: list[CallRecord] = []
    results = []
    for call in reply.calls:
        with failing_as("world", f"The tool {call.name}"):
            result, earned = _made(world, call.name, call.arguments)
        results.append((call, result))
        records.append(CallRecord(call.name, call.arguments, result.payload, result.brief, result.error, earned))
    with failing_as("world", "What the tools returned"):
        messages = (reply.message, *(agent.results(results) if results else ()))
    if reply.speech is not None:
        hand_over(world)
    return Action(messages, completion, tuple(records), spoke=reply.speech is not None)


def _made(world: World, tool: str, arguments: Mapping[str, Any]) -> tuple[ToolResult, tuple[int, ...]]:
    """Make a call; returns its result, and the milestones that it newly earned."""
    before = world.milestones()
    result = called(world, tool, arguments)
    return result, tuple(sorted(world.milestones() - before))


async def agent_turn(
    policy: Policy,
    agent: AgentFormat,
    world: World,
    conversation: Conversation,
    *,
    sampling: Sampling,
    max_requests: int,
    seed: Callable[[int], int],
) -> Turn:
    """Let the agent act until it speaks, at most ``max_requests`` requests.

    A reply that could not be understood costs a request too, and the agent is told. A turn whose
    requests are used up speaks an error sentence, and the conversation goes on.

    Args:
        world: changes with the calls; fork it first to keep the old state.
        conversation: everything so far, internal messages included, without the system message.
        seed: the seed of the request with that position in this turn.

    Raises:
        TurnError: the policy could not answer, or a part of the pipeline broke on what it said.
    """
    done: list[Action] = []
    try:
        while len(done) < max_requests and not (done and done[-1].spoke):
            so_far = conversation + _messages(done)
            done.append(await agent_action(policy, agent, world, so_far, sampling=sampling, seed=seed(len(done))))
        if done[-1].spoke:
            return _turn(done, ())
        hand_over(world)
    except RolloutError as fault:
        raise TurnError(fault, _turn(done, ())) from fault
    return _turn(done, (Message(role="assistant", content=ERROR_SENTENCE, error=True),))


def made_again(
    world: World, messages: Conversation, calls: Sequence[CallRecord]
) -> list[tuple[ToolResult, tuple[int, ...]]]:
    """Make the recorded calls of some messages again, and end the turns that end there.

    Args:
        world: as it was before the messages; it changes.
        calls: those that the messages made, in order.

    Returns:
        For each call its result, and the milestones that it newly earned.
    """
    found: list[tuple[ToolResult, tuple[int, ...]]] = []
    waiting = iter(calls)
    for place, message in enumerate(messages):
        if message.role != "assistant":
            continue
        made = islice(waiting, len(message.tool_calls))
        found += [_made(world, call.tool, call.arguments) for call in made]
        if ends_turn(message, messages[place + 1] if place + 1 < len(messages) else None):
            hand_over(world)
    return found


def hand_over(world: World) -> None:
    """End the agent's turn in a world."""
    with failing_as("world", "The end of a turn"):
        world.hand_over()


def _messages(actions: Sequence[Action]) -> Conversation:
    return tuple(message for action in actions for message in action.messages)


def _turn(actions: Sequence[Action], fallback: Conversation) -> Turn:
    return Turn(
        messages=_messages(actions) + fallback,
        completions=tuple(action.completion for action in actions),
        calls=tuple(record for action in actions for record in action.calls),
        error_turn=bool(fallback),
    )


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
            reply = await answered(user, visible(messages))
        except RolloutError as fault:
            return Talk(messages, tuple(turns), user_done=False, failure=fault)
        if reply.text:
            messages += (Message(role="user", content=reply.text),)
        if reply.done or len(visible(messages)) >= max_messages:
            return Talk(messages, tuple(turns), reply.done)
        failure: RolloutError | None = None
        of_turn = partial(seed, len(turns))
        try:
            turn = await agent_turn(
                policy, agent, world, messages, sampling=sampling, max_requests=max_requests, seed=of_turn
            )
        except TurnError as cut:
            turn, failure = cut.turn, cut
        messages += turn.messages
        turns.append(turn)
        if failure is not None or len(visible(messages)) >= max_messages:
            return Talk(messages, tuple(turns), user_done=False, failure=failure)
