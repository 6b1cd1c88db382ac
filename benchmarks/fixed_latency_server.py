"""An OpenAI-compatible server that answers every chat after the same time; the search benchmark starts it.

Run: python benchmarks/fixed_latency_server.py --latency 0.2 --capacity 32

It prints its port, then serves. An answer depends on the request's seed alone. ``GET /log`` returns when
each request so far went into service and came out, on the machine's monotonic clock, and clears the log.
"""

import argparse
import asyncio
import json
import random
import time

SPOKEN = ("Which area would you like?", "Shall I book it?", "I found one for you.", "What day, please?")
AREAS = ("centre", "east", "north", "south", "west")
PRICES = ("cheap", "moderate", "expensive")
DOMAINS = ("hotel", "restaurant", "attraction")


def answer(seed: int) -> str:
    """Return a search in two of five cases, else a sentence."""
    draw = random.Random(seed)
    if draw.random() < 0.6:
        return draw.choice(SPOKEN)
    parameters = {"area": draw.choice(AREAS)}
    domain = draw.choice(DOMAINS)
    if domain != "attraction":
        parameters["pricerange"] = draw.choice(PRICES)
    return json.dumps({"name": f"search_{domain}", "parameters": parameters})


class Server:
    """Serves ``capacity`` requests at a time; others wait their turn."""

    def __init__(self, latency: float, capacity: int) -> None:
        self.latency = latency
        self.places = asyncio.Semaphore(capacity)
        self.log: list[tuple[float, float]] = []

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve the requests of one kept-alive connection."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                lengths = [line for line in head.split("\r\n") if line.lower().startswith("content-length:")]
                body = await reader.readexactly(int(lengths[0].split(":")[1])) if lengths else b""
                reply = json.dumps(await self.reply(head.split(" ")[1], body)).encode()
                kind = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
                writer.write(kind + str(len(reply)).encode() + b"\r\n\r\n" + reply)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def reply(self, path: str, body: bytes) -> object:
        """Return the answer to one request."""
        if path.endswith("/log"):
            log, self.log = self.log, []
            return log
        request = json.loads(body)
        async with self.places:
            began = time.monotonic()
            await asyncio.sleep(self.latency)
            self.log.append((began, time.monotonic()))
        text = answer(request["seed"])
        usage = {"prompt_tokens": sum(len(m["content"]) for m in request["messages"]) // 4}
        usage["completion_tokens"] = len(text) // 4
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return {"choices": [choice], "usage": usage}


async def serve(latency: float, capacity: int) -> None:
    """Serve until killed."""
    server = await asyncio.start_server(Server(latency, capacity).connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latency", type=float, required=True, help="seconds from service to answer")
    parser.add_argument("--capacity", type=int, required=True, help="requests served at a time")
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.latency, arguments.capacity))
