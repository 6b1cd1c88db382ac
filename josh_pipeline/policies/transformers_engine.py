"""transformers in process: what answers where vLLM has no build.

Requests that wait when a batch ends form the next batch. Each row has its own generator, so what
is sampled for a request depends on its seed, not on its neighbours.
"""

import asyncio
from dataclasses import dataclass
from itertools import takewhile

import torch
from transformers import DynamicCache

from josh_pipeline.core.errors import RolloutError, failing_as
from josh_pipeline.core.policy import Sampling
from josh_pipeline.policies.local import Generated
from josh_pipeline.policies.weights import Quantization, Weights


@dataclass(frozen=True)
class _Waiting:
    prompt: list[int]
    sampling: Sampling
    seed: int
    answer: "asyncio.Future[Generated]"


class TransformersEngine:
    """An ``Engine`` over one causal language model.

    Args:
        weights: of the policy.
        stop_ids: tokens that end a completion.
        pad_id: any token; padded positions are masked.
        max_batch: rows of a batch.
        quantization: of the base.
    """

    def __init__(
        self, weights: Weights, *, stop_ids: tuple[int, ...], pad_id: int, max_batch: int, quantization: Quantization
    ) -> None:
        self._model = weights.load(quantization)
        self._stop_ids = frozenset(stop_ids)
        self._pad_id = pad_id
        self._max_batch = max_batch
        self._queue: list[_Waiting] = []
        self._loop: asyncio.Task[None] | None = None

    async def generate(self, prompt: list[int], sampling: Sampling, seed: int) -> Generated:
        """Sample once; see ``Engine.generate``."""
        answer: asyncio.Future[Generated] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(prompt, sampling, seed, answer))
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._run())
        return await answer

    async def _run(self) -> None:
        await asyncio.sleep(0)  # let all that is ready to ask ask first
        while self._queue:
            # Rows of like length share a batch: padding is work too.
            self._queue.sort(key=lambda waiting: len(waiting.prompt))
            batch, self._queue = self._queue[: self._max_batch], self._queue[self._max_batch :]
            try:
                with failing_as("endpoint", "The model"):
                    results = await asyncio.to_thread(self._batch, batch)
            except RolloutError as fault:
                # The next batch may be smaller, and fit into the memory that this one lacked.
                for waiting in batch:
                    if not waiting.answer.done():
                        waiting.answer.set_exception(RolloutError(fault.kind, fault.message))
                continue
            for waiting, generated in zip(batch, results, strict=True):
                if not waiting.answer.done():
                    waiting.answer.set_result(generated)

    @torch.inference_mode()
    def _batch(self, batch: list[_Waiting]) -> list[Generated]:
        device = self._model.device
        prompts = [row.prompt for row in batch]
        alike = takewhile(lambda pair: pair[0] == pair[1], zip(min(prompts), max(prompts), strict=False))
        # At least one token short of the shortest: each row needs a token to go on from.
        shared = min(sum(1 for _ in alike), min(map(len, prompts)) - 1)
        width = max(map(len, prompts))
        cache = self._prefix_cache(batch[0].prompt[:shared], len(batch))
        # Columns: the shared prefix once, then the rest of each prompt padded on its left.
        rest = [[self._pad_id] * (width - len(row.prompt)) + row.prompt[shared:] for row in batch]
        tokens = torch.tensor(rest, device=device)
        mask = torch.ones((len(batch), width), dtype=torch.long, device=device)
        for index, row in enumerate(batch):
            mask[index, shared : shared + width - len(row.prompt)] = 0
        generators = [torch.Generator().manual_seed(row.seed) for row in batch]
        sampled: list[list[int]] = [[] for _ in batch]
        logprobs: list[list[float]] = [[] for _ in batch]
        reasons = ["length"] * len(batch)
        live = set(range(len(batch)))
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, shared:]
        while True:
            logits = self._model(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            chosen = [self._pad_id] * len(batch)
            for index in sorted(live):
                token, logprob = _draw(logits[index].float().cpu(), batch[index].sampling, generators[index])
                chosen[index] = token
                sampled[index].append(token)
                logprobs[index].append(logprob)
                if token in self._stop_ids:
                    reasons[index] = "stop"
                    live.discard(index)
                elif len(sampled[index]) >= batch[index].sampling.max_tokens:
                    live.discard(index)
            if not live:
                break
            tokens = torch.tensor(chosen, device=device)[:, None]
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
            positions = positions[:, -1:] + 1
        return [
            Generated(tuple(ids), reason, shared if index else 0, tuple(scores) if row.sampling.whole else None)
            for index, (row, ids, reason, scores) in enumerate(zip(batch, sampled, reasons, logprobs, strict=True))
        ]

    def _prefix_cache(self, prefix: list[int], rows: int) -> DynamicCache:
        cache = DynamicCache(config=self._model.config)
        if prefix:
            ids = torch.tensor([prefix], device=self._model.device)
            self._model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache.batch_repeat_interleave(rows)
        return cache

    async def close(self) -> None:
        """Wait for the running batch, and free the model."""
        self._queue.clear()
        if self._loop is not None:
            await asyncio.gather(self._loop, return_exceptions=True)
        del self._model


def _draw(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> tuple[int, float]:
    """Return a token and its log-probability in what it was drawn from."""
    if sampling.temperature == 0:
        return int(logits.argmax()), 0.0
    logits = logits / sampling.temperature
    if sampling.top_k:
        threshold = logits.topk(min(sampling.top_k, logits.numel())).values[-1]
        logits = logits.masked_fill(logits < threshold, -torch.inf)
    if sampling.top_p < 1:
        ordered, order = logits.sort(descending=True)
        probabilities = ordered.softmax(0)
        beyond = probabilities.cumsum(0) - probabilities >= sampling.top_p
        logits = logits.index_fill(0, order[beyond], -torch.inf)
    token = int(torch.multinomial(logits.softmax(0), 1, generator=generator))
    return token, float(logits[token] - logits.logsumexp(0))
