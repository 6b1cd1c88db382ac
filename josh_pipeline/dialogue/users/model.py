"""What the LLM users share: flipped roles, the end mark, and the typed failure of an empty answer."""

from josh_pipeline.dialogue.messages import Conversation, Message
from josh_pipeline.dialogue.storable import storable_text
from josh_pipeline.dialogue.users.base import UserReply
from josh_pipeline.errors import RolloutError
from josh_pipeline.policies.policy import Policy, Request, Sampling

END_MARK = "END_CONVERSATION"
GREETING = "Hello, how can I help you?"
"""What the model answers with its opening message: chat templates want somebody else to speak first."""

SAMPLING = Sampling(temperature=0.0, max_tokens=256)
"""LLM users are greedy, as in the paper."""


def flipped(conversation: Conversation) -> Conversation:
    """Return the visible conversation as the user's model sees it: the agent is its ``user``."""
    return (
        Message(role="user", content=GREETING),
        *(Message(role="assistant" if m.role == "user" else "user", content=m.content) for m in conversation),
    )


def transcript(conversation: Conversation) -> str:
    """Return the visible conversation as lines that name the speaker."""
    return "\n".join(f"{'Customer' if m.role == 'user' else 'Agent'}: {m.content}" for m in conversation)


async def ask(policy: Policy, system: str, messages: Conversation, seed: int) -> str:
    """Return the model's answer, storable and stripped.

    Raises:
        RolloutError: kind ``user``: no answer could be had, or it is empty.
    """
    request = Request(
        messages=(Message(role="system", content=system), *messages), tools=(), sampling=SAMPLING, seed=seed
    )
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
