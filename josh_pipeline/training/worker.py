"""A process that trains, alone or as one of several, and tells its parent how far it is.

Run as ``python -m josh_pipeline.training.worker FOLDER``, by torch's launcher where there are several. The
folder holds ``job.json``. What goes to the parent are lines of JSON on the standard output, each one
message; whatever libraries print goes to the standard error.
"""

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.progress import Progress, SilentProgress
from josh_pipeline.training.job import TrainingJob


class _Lines:
    """A ``Progress`` that writes what it is told."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def send(self, kind: str, value: Any) -> None:
        self._out.write(json.dumps({kind: value}) + "\n")
        self._out.flush()

    def start(self, task: str, total: int | None) -> None:
        self.send("start", [task, total])

    def advance(self, task: str, steps: int = 1) -> None:
        self.send("advance", [task, steps])

    def finish(self, task: str) -> None:
        self.send("finish", task)

    def note(self, text: str) -> None:
        self.send("note", text)


def _end_with_parent() -> None:
    # Not sys.stdin: a thread that holds its lock lets the interpreter abort at the end.
    while os.read(0, 1):
        pass
    os._exit(1)


def main() -> int:
    """Train."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    lines = _Lines(os.fdopen(os.dup(1), "w"))
    os.dup2(2, 1)
    # Imported last: it takes seconds, in which the parent may already be gone.
    from accelerate import PartialState

    from josh_pipeline.training.run import train_here

    work = Path(sys.argv[1])
    job = TrainingJob.from_json((work / "job.json").read_text())
    first = os.environ.get("RANK", "0") == "0"
    progress: Progress = lines if first else SilentProgress()
    try:
        result = train_here(job, work, progress)
    except UserError as fault:
        lines.send("error", str(fault))
        return 1
    if first:
        lines.send("result", result.to_json())
    PartialState().destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
