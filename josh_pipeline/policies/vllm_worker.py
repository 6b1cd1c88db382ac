"""The process that hosts a vLLM engine: JSON lines in, JSON lines out, over one socket.

Engine, scheduler and model share this one process (``VLLM_ENABLE_V1_MULTIPROCESSING=0``): on two
cores a server with its three processes starts two to four times slower. The process ends when the
socket closes, so however its parent dies, SIGKILL included, no engine is left behind.

Run as ``python -m josh_pipeline.policies.vllm_worker FD CONFIG-JSON``.
"""

import json
import os
import queue
import socket
import sys
import threading
from typing import Any


def _read_requests(connection: socket.socket, waiting: "queue.Queue[dict[str, Any]]") -> None:
    with connection.makefile("r", encoding="utf-8") as lines:
        for line in lines:
            waiting.put(json.loads(line))
    # The parent is gone or has closed the engine: even a running step must not outlive it.
    os._exit(0)


def _sampling(request: dict[str, Any], stop_ids: list[int]) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=request["temperature"],
        top_p=request["top_p"],
        top_k=request["top_k"],
        max_tokens=request["max_tokens"],
        # Greedy needs no generator, and seeded requests leave vLLM's batched sampling path.
        seed=request["seed"] if request["temperature"] > 0 else None,
        stop_token_ids=stop_ids,
        logprobs=0 if request["scored"] else None,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _serve(connection: socket.socket, config: dict[str, Any]) -> None:
    from vllm import EngineArgs, LLMEngine
    from vllm.lora.request import LoRARequest

    waiting: queue.Queue[dict[str, Any]] = queue.Queue()
    # Listens from the start: a parent that dies while the engine loads must not be outlived either.
    threading.Thread(target=_read_requests, args=(connection, waiting), daemon=True).start()
    engine = LLMEngine.from_engine_args(EngineArgs(**config["engine"]))
    adapter = LoRARequest("policy", 1, config["adapter"]) if config["adapter"] else None
    out = connection.makefile("w", encoding="utf-8")

    def send(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")

    send({"ready": True})
    out.flush()
    while True:
        idle = not engine.has_unfinished_requests()
        while idle or not waiting.empty():
            request = waiting.get()
            idle = False
            try:
                engine.add_request(
                    request["id"],
                    {"prompt_token_ids": request["prompt"]},
                    _sampling(request, config["stop_ids"]),
                    lora_request=adapter,
                )
            except ValueError as fault:
                send({"id": request["id"], "error": " ".join(str(fault).split())})
        for output in engine.step():
            if output.finished:
                completion = output.outputs[0]
                scored = zip(completion.token_ids, completion.logprobs or (), strict=False)
                send(
                    {
                        "id": output.request_id,
                        "token_ids": list(completion.token_ids),
                        "logprobs": [found[token].logprob for token, found in scored],
                        "finish_reason": completion.finish_reason,
                        "cached_tokens": output.num_cached_tokens or 0,
                    }
                )
        out.flush()


def main() -> None:
    """Serve until the socket closes."""
    _serve(socket.socket(fileno=int(sys.argv[1])), json.loads(sys.argv[2]))


if __name__ == "__main__":
    main()
