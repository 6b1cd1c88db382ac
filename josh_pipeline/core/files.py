"""Files that commands write where they are told to."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from josh_pipeline.core.errors import UserError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make the folders above what the block writes: the one rule of every command that writes files.

    Raises:
        UserError: it cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as fault:
        raise UserError(f"{path} cannot be written ({fault.strerror}): give another place.") from None
