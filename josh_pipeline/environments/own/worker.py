"""Where code of one's own runs: one thread beside the pipeline's, which is given up where that code never returns.

It is always the same thread as long as all goes well: some objects (connections of ``sqlite3``) are bound to theirs.
"""

import ctypes
import sys
import threading
from collections.abc import Callable
from contextlib import redirect_stdout
from queue import Empty, SimpleQueue
from typing import Any

from josh_pipeline.core.errors import RolloutError

GRACE = 0.5
"""Seconds in which late code that heeds an exception has to end; what sits in a library written in C does not."""


class _LateError(BaseException):
    """The time is over; no ``Exception``, lest the code that is late catches it."""


Answer = tuple[Any, BaseException | None]


class _Worker(threading.Thread):
    """Does one thing after the other, and says what each gave or raised."""

    def __init__(self) -> None:
        super().__init__(name="code of one's own", daemon=True)  # what never returns must not hold up the exit
        self.jobs: SimpleQueue[tuple[Callable[[], Any], SimpleQueue[Answer]]] = SimpleQueue()

    def run(self) -> None:
        while True:
            work, answers = self.jobs.get()
            try:
                answers.put((work(), None))
            except BaseException as fault:
                answers.put((None, fault))

    def stop(self, answers: "SimpleQueue[Answer]") -> bool:
        """Interrupt what is done; returns whether the worker can do something else now."""
        ident = ctypes.c_ulong(self.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(_LateError))
        try:
            answers.get(timeout=GRACE)
        except Empty:
            return False
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, None)  # it may have ended by itself, just now
        return True


_workers: list[_Worker] = []
"""The worker of this process, once there is one."""


def run(part: str, seconds: float, work: Callable[[], Any]) -> Any:
    """Run code of one's own, and return what it gives; what it prints goes to the standard error.

    Args:
        part: names it in the message.
        seconds: it may take.

    Raises:
        RolloutError: kind ``world``: it took longer.
        Exception: whatever it raised.
    """
    if threading.current_thread() in _workers:
        return work()  # garbage is collected in any thread, and something may be closed then
    if not _workers or not _workers[0].is_alive():
        _workers[:] = [_Worker()]
        _workers[0].start()
    answers: SimpleQueue[Answer] = SimpleQueue()
    with redirect_stdout(sys.stderr):
        _workers[0].jobs.put((work, answers))
        try:
            value, fault = answers.get(timeout=seconds)
        except Empty:
            if not _workers[0].stop(answers):
                _workers.clear()
            raise RolloutError("world", f"{part} took longer than the {seconds:g} seconds of call_seconds.") from None
    if fault is not None:
        raise fault
    return value
