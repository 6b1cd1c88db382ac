"""Errors that reach people, and the types of error a rollout can end in."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from josh_pipeline.core.redaction import redacted

ErrorKind = Literal["endpoint", "timeout", "context_length", "parse", "user", "world", "budget"]
"""Why a branch or a conversation failed; stored with the row that it left."""

SHOWN_CHARACTERS = 60
"""Longest piece of somebody's own text that a message repeats."""


FULL = ("No space left on device", "Disk quota exceeded", "disk is full")
"""A full disk, in the words of the system and of SQLite."""
CLOSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""The system does not let us in."""


class UserError(Exception):
    """A mistake that the person at the keyboard can mend.

    The message is one sentence that says what to do. The command line prints it without a
    traceback and exits with a status other than 0. No secret of this process is repeated in it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(redacted(message))


class RolloutError(Exception):
    """A failure inside one conversation; the search turns it into a row, never into a crash.

    Args:
        kind: what part failed.
        message: one sentence about this failure; secrets of this process are taken out of it.
    """

    def __init__(self, kind: ErrorKind, message: str) -> None:
        self.kind: ErrorKind = kind
        self.message = redacted(message)
        super().__init__(self.message)


@contextmanager
def failing_as(kind: ErrorKind, part: str) -> Iterator[None]:
    """Let whatever goes wrong in a part of one conversation end that conversation, and no other.

    Args:
        kind: of the failure that is raised instead.
        part: names it in the message.

    Raises:
        RolloutError: the part raised; its own ``RolloutError`` goes through as it is.
    """
    try:
        yield
    except RolloutError:
        raise
    except Exception as fault:
        raise RolloutError(kind, f"{part} raised {type(fault).__name__}: {fault}") from fault


@contextmanager
def at_fault(part: str) -> Iterator[None]:
    """Let whatever goes wrong in code that somebody else wrote be a mistake that they can mend.

    Args:
        part: names it in the message.

    Raises:
        UserError: the part raised, or broke a promise; its own ``UserError`` goes through as it is.
    """
    try:
        yield
    except UserError:
        raise
    except RolloutError as fault:
        raise UserError(
            f"{part}: {fault.message.rstrip('.')}: mend the environment's code, or what it reads."
        ) from fault
    except Exception as fault:
        reason = " ".join(f"{type(fault).__name__}: {fault}".split())[:300].rstrip(".")
        raise UserError(f"{part} failed ({reason}): mend the environment's code, or what it reads.") from fault


def machine_fault(fault: Exception) -> str | None:
    """Say what to do where the machine has no space, or keeps a place closed; None for any other fault.

    Any write can meet a full disk, and libraries raise errors of their own then, with the system's words in them:
    so this is told where all errors arrive.
    """
    if any(words in str(fault) for words in FULL):
        return "No space is left on the disk: free some, and run the same command again; what was finished is kept."
    if isinstance(fault, OSError) and fault.errno in CLOSED:
        return f"{fault.filename} is closed to you ({fault.strerror}): mend its permissions, or name another place."
    return None


def quoted(text: Any) -> str:
    """Quote for a message what somebody wrote, cut to ``SHOWN_CHARACTERS``; of no text, its type."""
    shown = text if isinstance(text, str) else type(text).__name__
    return repr(shown if len(shown) <= SHOWN_CHARACTERS else shown[:SHOWN_CHARACTERS] + "…")
