"""Who may be in a home at the same time as whom."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from josh_pipeline.core.errors import UserError

WORK_LOCK = "work.lock"
"""Held by every step that is under way; alone by what clears a home."""


@contextmanager
def alone(path: Path, sentence: str) -> Iterator[None]:
    """Hold a lock file; the operating system frees it however the process ends.

    Args:
        sentence: what a second process is told.

    Raises:
        UserError: another process holds it.
    """
    with path.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(sentence) from None
        yield


@contextmanager
def at_work(root: Path) -> Iterator[None]:
    """Mark a home as in use by one of any number of steps; waits while it is being cleared."""
    with (root / WORK_LOCK).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        yield
