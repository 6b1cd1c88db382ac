"""Users that any environment can be played with: two LLMs, and one that repeats what a real user said."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

from josh_pipeline.core.content import content_id, derived_seed, storable_text
from josh_pipeline.core.environment import Environment, T
from josh_pipeline.core.errors import RolloutError, UserError
from josh_pipeline.core.messages import Conversation, Message
from josh_pipeline.core.policy import Policy, Request, Sampling
from josh_pipeline.core.user import User, UserReply

UserKind = Literal["agenda", "goal", "guide", "script", "none"]
END_MARK = "END_CONVERSATION"
GREETING = "Hello, how can I help you?"
"""What the model answers with its opening message: chat templates want somebody else to speak first."""

SAMPLING = Sampling(temperature=0.0, max_tokens=256)
"""LLM users are greedy, as in the paper."""

GOAL_PROMPT = f"""You are a customer who talks to {{agent}}.
What you want:
{{wishes}}
Write only your next message, as the customer.
- Tell one or two things at a time, with the exact values, and answer what you are asked.
- If something is not available, go on as the instructions say.
- Do not invent wishes, and never act as the agent.
- When everything is found and booked, or cannot be, write {END_MARK} and nothing else."""

GUIDE_PROMPT = f"""You coach a customer who talks to an agent. What the customer wants:
{{wishes}}
A real conversation about the same wishes went like this:
{{real}}
You are shown the customer's conversation so far. Say in one sentence what the customer should say next \
so that it goes as the real one did, with the exact values. Say {END_MARK} when all wishes are settled."""

GUIDED_PROMPT = f"""You are a customer who talks to {{agent}}.
What you want:
{{wishes}}
Your coach says: {{advice}}
Follow the coach. Write only your next message, as the customer, in one or two sentences.
When the coach says that all is settled, write {END_MARK} and nothing else."""

WORDING = {
    "goal": content_id(GOAL_PROMPT),
    "guide": content_id(GUIDE_PROMPT, GUIDED_PROMPT),
    "script": "v1",
    "none": "v1",
}
"""Names the words of a kind of user; scores under different words are not comparable."""


class GoalUser:
    """An LLM that is given what the user wants, and tells it piecemeal. Keeps no state.

    Args:
        policy: the model.
        agent: whom it talks to: ``Environment.agent``.
        message: of the task.
        seed: seeds of requests derive from it and the number of messages.
    """

    def __init__(self, policy: Policy, agent: str, message: Sequence[str], seed: int) -> None:
        self._policy = policy
        self._system = GOAL_PROMPT.format(agent=agent, wishes=wishes(message))
        self._seed = seed

    async def reply(self, conversation: Conversation) -> UserReply:
        """Answer the visible conversation so far; the empty one gives the opening message."""
        seed = derived_seed(self._seed, len(conversation))
        return ended(await ask(self._policy, self._system, flipped(conversation), seed))


class GuideUser(GoalUser):
    """The goal user, coached each turn by an LLM that sees a real conversation: two requests a reply.

    Args:
        transcript: the real conversation.
    """

    def __init__(self, policy: Policy, agent: str, message: Sequence[str], transcript: str, seed: int) -> None:
        super().__init__(policy, agent, message, seed)
        self._guide = GUIDE_PROMPT.format(wishes=wishes(message), real=transcript)
        self._guided = partial(GUIDED_PROMPT.format, agent=agent, wishes=wishes(message))

    async def reply(self, conversation: Conversation) -> UserReply:
        """Answer the visible conversation so far; the empty one gives the opening message."""
        said = (f"{'Customer' if m.role == 'user' else 'Agent'}: {m.content}" for m in conversation)
        question = (Message("user", "\n".join(said) or "(nothing was said yet)"),)
        guide_seed, seed = (derived_seed(self._seed, whose, len(conversation)) for whose in ("guide", "user"))
        advice = await ask(self._policy, self._guide, question, guide_seed)
        return ended(await ask(self._policy, self._guided(advice=advice), flipped(conversation), seed))


class ScriptUser:
    """Says what a real user said, line by line, without listening; done with the last line.

    Raises:
        RolloutError: kind ``user``: there is no line.
    """

    def __init__(self, lines: Sequence[str]) -> None:
        self._lines = tuple(lines)
        if not self._lines:
            raise RolloutError("user", "The task holds no words to repeat.")

    async def reply(self, conversation: Conversation) -> UserReply:
        """Say the next line."""
        said = sum(message.role == "user" for message in conversation)
        if said >= len(self._lines):
            return UserReply(text="", done=True)
        return UserReply(text=self._lines[said], done=said == len(self._lines) - 1)


def make_user(
    environment: Environment[T], task: T, kind: UserKind, max_turns: int, seed: int, policy: Policy | None
) -> User:
    """Return the simulated user of one task.

    Args:
        kind: ``agenda`` is the environment's own, by rules; with ``none`` the task's message is all that is said.
        max_turns: that one gives up after this many messages.
        seed: with the task it fixes the user.
        policy: what answers for the LLM users.

    Raises:
        UserError: an LLM user without a model.
    """
    if kind == "agenda":
        return environment.user(task, seed, max_turns)
    if kind == "none":
        return ScriptUser((" ".join(task.message), ""))
    if kind == "script":
        return ScriptUser(environment.lines(task))
    if policy is None:
        raise UserError(f"The {kind} user needs a model: set user.endpoint and user.model.")
    own = derived_seed(f"{kind} user", task.goal_id, seed)
    if kind == "goal":
        return GoalUser(policy, environment.agent, task.message, own)
    return GuideUser(policy, environment.agent, task.message, environment.transcript(task), own)


def wishes(message: Sequence[str]) -> str:
    """Return a task's message, one wish a line."""
    return "\n".join(f"- {line}" for line in message)


def flipped(conversation: Conversation) -> Conversation:
    """Return the visible conversation as the user's model sees it: the agent is its ``user``."""
    return (
        Message("user", GREETING),
        *(Message("assistant" if m.role == "user" else "user", m.content) for m in conversation),
    )


async def ask(policy: Policy, system: str, messages: Conversation, seed: int) -> str:
    """Return the model's answer, storable and stripped.

    Raises:
        RolloutError: kind ``user``: no answer could be had, or it is empty.
    """
    request = Request((Message("system", system), *messages), tools=(), sampling=SAMPLING, seed=seed)
    try:
        completion = await policy.complete(request)
    except RolloutError as fault:
        # The agent's model fails with the same kinds: the row must tell which of the two it was.
        raise RolloutError("user", f"The user's model ({fault.kind}): {fault.message}") from None
    text = storable_text(completion.text).strip()
    if not text:
        raise RolloutError("user", "The user's model gave an empty answer.")
    return text


def ended(text: str) -> UserReply:
    """Read an answer: the end mark ends the conversation and is not shown to the agent."""
    return UserReply(text=text.replace(END_MARK, "").strip(), done=END_MARK in text)
