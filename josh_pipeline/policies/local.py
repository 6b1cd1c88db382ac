"""A policy whose engine runs on this machine: rendering, limits and decoding around token ids."""

from dataclasses import dataclass
from typing import Protocol

from josh_pipeline.core.content import content_id
from josh_pipeline.core.errors import RolloutError, failing_as
from josh_pipeline.core.policy import Completion, Request, Sampling
from josh_pipeline.policies.chat import ChatRenderer

LOGPROB_DECIMALS = 4
"""Engines in bfloat16 differ from themselves by more, as batches fall."""


@dataclass(frozen=True)
class Generated:
    """Sampled tokens.

    Attributes:
        token_ids: new tokens, the end-of-turn token included where it was sampled.
        finish_reason: ``stop`` or ``length``.
        cached_tokens: prompt tokens that were not computed again.
        logprobs: of the new tokens where ``Sampling.whole``, else None.
    """

    token_ids: tuple[int, ...]
    finish_reason: str
    cached_tokens: int
    logprobs: tuple[float, ...] | None


class Engine(Protocol):
    """Turns prompt tokens into new tokens; batches what is asked at the same time."""

    async def generate(self, prompt: list[int], sampling: Sampling, seed: int) -> Generated:
        """Sample once; ``sampling.max_tokens`` already fits the context.

        Raises:
            RolloutError: kind ``endpoint`` where the engine failed or died.
        """
        ...

    async def close(self) -> None:
        """Stop, and free everything."""
        ...


class LocalPolicy:
    """Renders chats for an engine.

    Args:
        renderer: of the checkpoint that the engine serves.
        engine: what samples.
        digest: the policy's name.
        max_model_tokens: context length, prompt and completion.
    """

    def __init__(self, renderer: ChatRenderer, engine: Engine, digest: str, max_model_tokens: int) -> None:
        self._renderer = renderer
        self._engine = engine
        self._digest = digest
        self._max_model_tokens = max_model_tokens

    @property
    def digest(self) -> str:
        """The policy's name."""
        return self._digest

    async def complete(self, request: Request) -> Completion:
        """Draw one completion; see ``Policy.complete``."""
        with failing_as("endpoint", "The chat template"):
            prompt = self._renderer.prompt_ids(request.messages, request.tools)
        room = self._max_model_tokens - len(prompt)
        if room < 1:
            raise RolloutError("context_length", f"The prompt has {len(prompt)} of {self._max_model_tokens} tokens.")
        sampling = request.sampling
        if sampling.max_tokens > room:
            sampling = Sampling(sampling.temperature, room, sampling.top_p, sampling.top_k)
        generated = await self._engine.generate(prompt, sampling, request.seed)
        text, calls = self._renderer.reply(prompt, generated.token_ids, request.tools)
        return Completion(
            text=text,
            tool_calls=calls,
            token_ids=generated.token_ids,
            # A call that the token limit cut may be read without its last arguments: it stays known as cut.
            finish_reason="tool_calls" if calls and generated.finish_reason == "stop" else generated.finish_reason,
            prompt_tokens=len(prompt),
            cached_tokens=generated.cached_tokens,
            completion_tokens=len(generated.token_ids),
            prompt_digest=content_id(prompt),
            logprobs=generated.logprobs and tuple(round(one, LOGPROB_DECIMALS) for one in generated.logprobs),
            temperature=sampling.temperature if generated.logprobs else None,
        )

    async def close(self) -> None:
        """Stop the engine."""
        await self._engine.close()
