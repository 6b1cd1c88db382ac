"""Training in processes of its own, which give all of their memory back before anything is served.

A worker is run as ``python -m josh_pipeline.training.processes FOLDER``, by torch's launcher where there are
several. The folder holds ``job.json``. What goes to the parent are lines of JSON on the standard output, each
one message; whatever libraries print goes to the standard error.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.progress import Progress, SilentProgress
from josh_pipeline.training.job import JOBS, RESULTS, TrainingJob, TrainingResult

WORKER = "josh_pipeline.training.processes"


def train_in_processes(job: TrainingJob, work: Path, progress: Progress) -> TrainingResult:
    """Train with ``settings.processes`` workers, one a GPU where there are GPUs.

    Args:
        work: folder of this training alone; what the workers print goes to ``log.txt`` in it.

    Raises:
        UserError: what a worker refused, or that the workers died.
    """
    (work / "job.json").write_bytes(JOBS.dump_json(job.absolute()))
    log = work / "log.txt"
    result: TrainingResult | None = None
    with _workers(job.settings.processes, work, log) as process:
        assert process.stdout is not None
        for line in process.stdout:
            kind, value = _message(line)
            if kind == "error":
                raise UserError(value)
            if kind == "result":
                result = RESULTS.validate_python(value)
            elif kind in ("start", "advance", "finish", "note"):
                getattr(progress, kind)(*value)
    if result is None or process.returncode:
        code = process.returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        raise UserError(f"The training {how}: read {log}, and run the step again to go on from its last checkpoint.")
    return result


def _message(line: bytes) -> tuple[str, Any]:
    """Read one line of a worker; what libraries print before it takes its output over is nothing."""
    try:
        ((kind, value),) = json.loads(line).items()
    except (ValueError, AttributeError):
        return "", None
    return kind, value


@contextmanager
def _workers(processes: int, work: Path, log: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """Start the workers, and end them however the caller leaves."""
    launcher = [sys.executable, "-m"]
    if processes > 1:
        launcher += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    environment = dict(os.environ)
    if processes == 1:
        # With several GPUs in sight a single process would spread each batch over all of them.
        environment["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [*launcher, WORKER, str(work)],
            # Nothing is written to it: it closes when this process ends, SIGKILL included, and they with it.
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sink,
            env=environment,
            # Ctrl-C reaches this process alone, which ends the workers in order.
            start_new_session=True,
        )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield process
        process.wait()
    finally:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


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
        self.send("finish", [task])

    def note(self, text: str) -> None:
        self.send("note", [text])


def _end_with_parent() -> None:
    # Not sys.stdin: a thread that holds its lock lets the interpreter abort at the end.
    while os.read(0, 1):
        pass
    os._exit(1)


def main() -> int:
    """Train, as a worker."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    lines = _Lines(os.fdopen(os.dup(1), "w"))
    os.dup2(2, 1)
    # Imported last: it takes seconds, in which the parent may already be gone.
    from accelerate import PartialState

    from josh_pipeline.training.fit import fit

    work = Path(sys.argv[1])
    job = JOBS.validate_json((work / "job.json").read_bytes())
    first = os.environ.get("RANK", "0") == "0"
    progress: Progress = lines if first else SilentProgress()
    try:
        result = fit(job, work, progress)
    except UserError as fault:
        lines.send("error", str(fault))
        return 1
    if first:
        lines.send("result", RESULTS.dump_python(result, mode="json"))
    PartialState().destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
