"""A real HTTP server on this machine that answers as a test says, and requests to it."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from josh_pipeline.core.messages import Message
from josh_pipeline.core.policy import Completion, Request, Sampling
from josh_pipeline.policies.endpoint import EndpointPolicy

HELLO = Request((Message("user", "hello"),), (), Sampling(0.0, 16), seed=7)
TOOLS = ({"type": "function", "function": {"name": "search_hotel"}},)


def answer(message: dict[str, Any], usage: dict[str, Any] | None = None) -> str:
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage or {}})


@dataclass
class Server:
    """Answers request n with ``reply(n)``: a status, headers and a body."""

    reply: Callable[[int], tuple[int, dict[str, str], str]]
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next((int(x.split(":")[1]) for x in head.splitlines() if x.lower().startswith("content-length")), 0)
        body = await reader.readexactly(length)
        self.headers.append(head)
        self.times.append(time.monotonic())
        if body:
            self.bodies.append(json.loads(body))
        status, headers, text = self.reply(len(self.headers) - 1)
        extra = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        size = len(text.encode())
        start = f"HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {size}\r\n{extra}\r\n"
        writer.write((start + text).encode())
        await writer.drain()
        writer.close()


class Dripping(Server):
    """Sends a byte of its answer now and then, each within any timeout of a read."""

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.times.append(time.monotonic())
        writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 1000000\r\n\r\n")
        with suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.close()


def ask(server: Server, request: Request = HELLO, seconds: float = 5) -> Completion:
    return ask_all(server, [request], seconds)[0]


def ask_all(server: Server, requests: list[Request], seconds: float = 5) -> list[Completion]:
    async def run() -> list[Completion]:
        listener = await asyncio.start_server(server.connection, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}/v1"
        policy = EndpointPolicy(url, "m", 4, first_delay=0.001, request_seconds=seconds)
        try:
            return [await policy.complete(request) for request in requests]
        finally:
            await policy.close()
            listener.close()

    return asyncio.run(run())
