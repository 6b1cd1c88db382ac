"""The one interface of everything that answers prompts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from josh_pipeline.core.messages import Conversation, ToolCall


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn.

    Attributes:
        temperature: 0 is greedy.
        max_tokens: new tokens a request, at most.
        top_p: nucleus; 1 switches it off.
        top_k: 0 switches it off.
    """

    temperature: float
    max_tokens: int
    top_p: float = 1.0
    top_k: int = 0

    @property
    def whole(self) -> bool:
        """Whether tokens are drawn from all of the policy's distribution, so that a log-probability is its own."""
        return self.temperature > 0 and self.top_p == 1 and self.top_k == 0


@dataclass(frozen=True)
class Request:
    """One completion to be made.

    Attributes:
        messages: the conversation, system message first; the last one is not the assistant's.
        tools: JSON schemas in the chat API's form, for agents that use the API's own tool calling.
        sampling: how to draw.
        seed: derived from iteration, attempt, goal and node path; never from scheduling.
    """

    messages: Conversation
    tools: tuple[Mapping[str, Any], ...]
    sampling: Sampling
    seed: int


@dataclass(frozen=True)
class Completion:
    """What was sampled, kept as it was sampled.

    Attributes:
        text: decoded text, special tokens removed.
        tool_calls: structured calls, where the endpoint's API gives them.
        token_ids: sampled ids, the end-of-turn token included; None where the endpoint gives none.
        logprobs: log-probability of each of them at ``temperature``, as it was sampled, to four decimals; None
            where an endpoint sampled them, or not from the policy's whole distribution.
        temperature: that of ``logprobs``.
        finish_reason: ``stop``, ``length`` or ``tool_calls``.
        prompt_tokens, cached_tokens, completion_tokens: counts.
        prompt_digest: content hash of the prompt's token ids; None where the endpoint gives none.
    """

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    token_ids: tuple[int, ...] | None = None
    finish_reason: str = "stop"
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    prompt_digest: str | None = None
    logprobs: tuple[float, ...] | None = None
    temperature: float | None = None


class Policy(Protocol):
    """Completes chats, asynchronously; batches what is asked at the same time.

    Attributes:
        digest: names the policy: a content hash of base and adapter, or of endpoint and model name.
    """

    @property
    def digest(self) -> str:
        """Content hash that names the policy."""
        ...

    async def complete(self, request: Request) -> Completion:
        """Draw one completion.

        Raises:
            RolloutError: kind ``endpoint``, ``timeout`` or ``context_length``.
        """
        ...

    async def close(self) -> None:
        """Free what the policy holds; nothing it started stays alive."""
        ...
