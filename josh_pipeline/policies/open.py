"""Opens the policy that the settings ask for, and closes it whatever happens."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.policy import Policy
from josh_pipeline.policies.chat import ChatRenderer
from josh_pipeline.policies.endpoint import open_endpoint
from josh_pipeline.policies.local import Engine, LocalPolicy
from josh_pipeline.policies.models import pad_id
from josh_pipeline.policies.transformers_engine import TransformersEngine
from josh_pipeline.policies.vllm_engine import VllmEngine, require_vllm, vllm_installed
from josh_pipeline.policies.weights import Weights
from josh_pipeline.settings import PolicySettings

MAX_TRANSFORMERS_BATCH = 32


@asynccontextmanager
async def open_policy(
    settings: PolicySettings, weights: Weights | None, digest: str, in_flight: int
) -> AsyncIterator[Policy]:
    """Yield a policy that serves ``weights``, or the endpoint of the settings.

    Args:
        settings: which backend, and its limits.
        weights: base and adapter; None only with an endpoint.
        digest: the policy's name.
        in_flight: requests at the same time, at most.

    Raises:
        UserError: the engine cannot start, or the endpoint does not answer.
    """
    if settings.endpoint is not None:
        async with open_endpoint(settings.endpoint, settings.model, in_flight, settings.extra_body) as endpoint:
            yield endpoint
        return
    if weights is None:
        raise UserError("There is no checkpoint to serve: set policy.endpoint, or a local policy.model.")
    renderer = ChatRenderer(weights.base)
    engine = await open_engine(settings, weights, renderer, in_flight)
    policy = LocalPolicy(renderer, engine, digest, settings.max_model_tokens)
    try:
        yield policy
    finally:
        await policy.close()


async def open_engine(settings: PolicySettings, weights: Weights, renderer: ChatRenderer, in_flight: int) -> Engine:
    """Start the engine that the settings ask for; whoever asked closes it.

    Raises:
        UserError: it is not installed, or does not start.
    """
    backend = settings.backend
    if backend == "auto":
        backend = "vllm" if vllm_installed() else "transformers"
    if backend == "vllm":
        require_vllm()
        return await VllmEngine.start(
            weights,
            stop_ids=renderer.stop_ids,
            max_model_tokens=settings.max_model_tokens,
            in_flight=in_flight,
            quantization=settings.quantization,
        )
    return TransformersEngine(
        weights,
        stop_ids=renderer.stop_ids,
        pad_id=pad_id(weights.base),
        max_batch=min(in_flight, MAX_TRANSFORMERS_BATCH),
        quantization=settings.quantization,
    )
