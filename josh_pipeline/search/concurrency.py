"""The one concurrency model: tasks on an event loop, one limiter over all conversations, back-pressure."""

import asyncio
import heapq
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

from josh_pipeline.core.policy import Completion, Policy, Request

T = TypeVar("T")

QUEUE_SHARE = 0.25
"""Requests kept waiting, as a share of the limit, before another conversation is admitted.

A freed place must be taken at once, so some requests have to wait; but each open conversation is work
that a kill would lose and prefixes that an engine must cache.
"""


class Limiter:
    """Caps the requests in flight, and serves older conversations first.

    Args:
        in_flight: requests that may be in flight at once, over all conversations.
    """

    def __init__(self, in_flight: int) -> None:
        self.in_flight = in_flight
        self._free = in_flight
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._lanes: set[Lane] = set()
        self._opened = 0
        self._arrivals = 0
        self._changed = asyncio.Event()

    @property
    def demand(self) -> int:
        """Requests in flight or waiting; a conversation between two requests counts as one."""
        return sum(max(1, lane.outstanding) for lane in self._lanes)

    def lane(self) -> "Lane":
        """Return one conversation's share of the limiter; use it as a context manager."""
        self._opened += 1
        return Lane(self, self._opened)

    async def room(self) -> None:
        """Wait until another conversation would keep the limit busy."""
        enough = self.in_flight + int(self.in_flight * QUEUE_SHARE)
        while self.demand >= enough:
            self._changed.clear()
            await self._changed.wait()

    async def acquire(self, order: int) -> None:
        """Wait for a place; lower orders go first, equal ones as they came."""
        if self._free:
            self._free -= 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._arrivals += 1
        heapq.heappush(self._waiting, (order, self._arrivals, place))
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Hand the place to the next in line."""
        while self._waiting:
            _, _, place = heapq.heappop(self._waiting)
            if not place.done():
                place.set_result(None)
                return
        self._free += 1

    def enter(self, lane: "Lane") -> None:
        """Count a conversation in."""
        self._lanes.add(lane)

    def leave(self, lane: "Lane") -> None:
        """Count a conversation out."""
        self._lanes.discard(lane)
        self.changed()

    def changed(self) -> None:
        """Wake whoever waits for room."""
        self._changed.set()


class Lane:
    """One conversation's share of a limiter.

    Attributes:
        outstanding: its requests in flight or waiting.
    """

    def __init__(self, limiter: Limiter, order: int) -> None:
        self.limiter = limiter
        self.order = order
        self.outstanding = 0

    def __enter__(self) -> Self:
        self.limiter.enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.limiter.leave(self)


@dataclass(frozen=True)
class LimitedPolicy:
    """A policy as one conversation sees it: each request waits for a place."""

    policy: Policy
    lane: Lane

    @property
    def digest(self) -> str:
        """The wrapped policy's digest."""
        return self.policy.digest

    async def complete(self, request: Request) -> Completion:
        """Draw one completion once there is a place; see ``Policy.complete``."""
        lane = self.lane
        lane.outstanding += 1
        try:
            await lane.limiter.acquire(lane.order)
            try:
                return await self.policy.complete(request)
            finally:
                lane.limiter.release()
        finally:
            lane.outstanding -= 1
            lane.limiter.changed()

    async def close(self) -> None:
        """Do nothing: whoever made the wrapped policy closes it."""


async def concurrently(steps: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines at the same time and return their results in the order given.

    Where one raises, the others are cancelled and awaited before its exception goes on.
    """
    tasks = [asyncio.ensure_future(step) for step in steps]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await _end(tasks)


async def admitted(
    starts: Iterable[Callable[[], Coroutine[Any, Any, T]]],
    limiter: Limiter,
    finished: Callable[[T], None],
    enough: Callable[[], bool] = lambda: False,
) -> None:
    """Run conversations, opening each when the limiter has room, until all have ended.

    Args:
        starts: give one conversation each; it must open its lane of ``limiter`` before it first waits.
        limiter: shared by all of them.
        finished: gets each result as it comes; an exception of its own stops everything.
        enough: asked before each conversation; once it is true no other one is opened.
    """

    async def run(start: Callable[[], Coroutine[Any, Any, T]]) -> None:
        finished(await start())

    tasks: set[asyncio.Task[None]] = set()
    try:
        for start in starts:
            await limiter.room()
            for task in [task for task in tasks if task.done()]:
                tasks.remove(task)
                task.result()
            if enough():
                break
            tasks.add(asyncio.create_task(run(start)))
            await asyncio.sleep(0)  # lets it open its lane, so that demand counts it
        await asyncio.gather(*tasks)
    finally:
        await _end(tasks)


async def _end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    left = [task for task in tasks if not task.done()]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
