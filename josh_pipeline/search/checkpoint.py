"""The single writer: what is finished is durable within seconds, in batches, off the event loop."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")

PAUSE_S = 1.0
"""Items that finish this close together share a write; the promise is 5 s, a batch takes well under one."""


class Checkpointer(Generic[T]):
    """Writes items in batches, one write at a time; use it as an asynchronous context manager.

    Leaving the block writes what is left, also where an exception or a cancellation ends it.

    Args:
        write: makes a batch durable; called on a thread, never twice at once.
        pause_s: how long an item waits for others to share its write.
    """

    def __init__(self, write: Callable[[list[T]], None], pause_s: float = PAUSE_S) -> None:
        self._write = write
        self._pause_s = pause_s
        self._items: list[T] = []
        self._added = asyncio.Event()
        self._closed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._added.set()
        if self._task is not None:
            await self._task

    def add(self, item: T) -> None:
        """Hand an item over; raises what an earlier write raised, so that work stops that cannot be kept."""
        if self._task is not None and self._task.done():
            self._task.result()
        self._items.append(item)
        self._added.set()

    async def _run(self) -> None:
        while self._items or not self._closed.is_set():
            await self._added.wait()
            self._added.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), self._pause_s)
            batch, self._items = self._items, []
            if batch:
                await asyncio.to_thread(self._write, batch)
