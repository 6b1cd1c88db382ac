"""One process at a time, where two would do the same work."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from josh_pipeline.errors import UserError


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
