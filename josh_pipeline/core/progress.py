"""How long work says how far it is: a small interface, and the places it is told to.

Work names a task, its size, and each step of it. The terminal draws bars; a step of an orchestrator, and
output that is no terminal, get a snapshot now and then; what wants quiet takes the silent one.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text


class Progress(Protocol):
    """What long work reports to. Tasks are known by their name; several may run at once."""

    def start(self, task: str, total: int | None) -> None:
        """Begin a task of ``total`` steps; None where the number is not known."""
        ...

    def advance(self, task: str, steps: int = 1) -> None:
        """Count steps of a started task as done."""
        ...

    def finish(self, task: str) -> None:
        """End a started task, whether or not all of its steps were done."""
        ...

    def note(self, text: str) -> None:
        """Say one line, e.g. ``24 of 48 trees earned the full reward``."""
        ...


class SilentProgress:
    """Says nothing."""

    def start(self, task: str, total: int | None) -> None:
        """Ignore it."""

    def advance(self, task: str, steps: int = 1) -> None:
        """Ignore it."""

    def finish(self, task: str) -> None:
        """Ignore it."""

    def note(self, text: str) -> None:
        """Ignore it."""


@dataclass(frozen=True)
class TaskState:
    """How far a task is.

    Attributes:
        task: its name.
        done, total: steps; ``total`` None where the number is not known.
        seconds: since the task began.
        finished: no more will come of this task.
    """

    task: str
    done: int
    total: int | None
    seconds: float
    finished: bool

    @property
    def rate(self) -> float:
        """Steps a second so far."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time left at the rate so far; None where it cannot be told."""
        if self.total is None or not self.rate:
            return None
        return max(0.0, (self.total - self.done) / self.rate)

    def __str__(self) -> str:
        """One line for people."""
        rate = f", {rate_text(self.rate)}" if self.rate else ""
        if self.finished:
            return f"{self.task}: {self.done} in {self.seconds:.0f} s{rate}"
        total = "" if self.total is None else f" of {self.total}"
        left = "" if self.seconds_left is None else f", {duration(self.seconds_left)} left"
        return f"{self.task}: {self.done}{total} after {duration(self.seconds)}{rate}{left}"


class ThrottledProgress:
    """Hands snapshots of the tasks to a callback, at most one every ``interval`` seconds a task.

    A finished task is always handed over, so that the last snapshot is true.

    Args:
        observe: takes a snapshot.
        say: takes a note; notes are not throttled.
        interval: seconds between two snapshots of a task.
        clock: seconds from any fixed moment.
    """

    def __init__(
        self,
        observe: Callable[[TaskState], None],
        say: Callable[[str], None],
        interval: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._observe = observe
        self._say = say
        self._interval = interval
        self._clock = clock
        self._state: dict[str, TaskState] = {}
        self._began: dict[str, float] = {}
        self._told: dict[str, float] = {}

    def start(self, task: str, total: int | None) -> None:
        """Begin a task; the first snapshot comes an interval later."""
        self._state[task] = TaskState(task, 0, total, 0.0, finished=False)
        self._began[task] = self._told[task] = self._clock()

    def advance(self, task: str, steps: int = 1) -> None:
        """Count steps, and hand a snapshot over where one is due."""
        now = self._clock()
        state = self._state[task]
        state = replace(state, done=state.done + steps, seconds=now - self._began[task])
        self._state[task] = state
        if now - self._told[task] >= self._interval:
            self._told[task] = now
            self._observe(state)

    def finish(self, task: str) -> None:
        """Hand the last snapshot over."""
        state = self._state.pop(task)
        self._observe(replace(state, seconds=self._clock() - self._began.pop(task), finished=True))
        del self._told[task]

    def note(self, text: str) -> None:
        """Pass a note on."""
        self._say(text)


class _Rate(ProgressColumn):
    """The rate of a bar."""

    def render(self, task: Task) -> Text:
        return Text(rate_text(task.finished_speed or task.speed or 0.0), style="cyan")


class TerminalProgress:
    """Bars with rate and time left on a terminal; elsewhere a line a minute and task, and one at its end.

    Use it as a context manager, so that the cursor comes back whatever happens.

    Args:
        console: standard error where None.
        clock: seconds from any fixed moment.
    """

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console or Console(stderr=True)
        self._bars = Bars(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            _Rate(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            console=self._console,
        )
        self._ids: dict[str, TaskID] = {}
        self._lines = ThrottledProgress(self._observe, self.note, clock=clock)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._bars.stop()

    def start(self, task: str, total: int | None) -> None:
        """Show a bar."""
        self._ids[task] = self._bars.add_task(task, total=total)
        self._lines.start(task, total)

    def advance(self, task: str, steps: int = 1) -> None:
        """Move a bar on."""
        self._bars.advance(self._ids[task], steps)
        self._lines.advance(task, steps)

    def finish(self, task: str) -> None:
        """Stop a bar's clock; it stays on the screen as it is."""
        self._lines.finish(task)

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        self._console.print(text, highlight=False, markup=False)

    def _observe(self, state: TaskState) -> None:
        if not self._console.is_terminal:
            self.note(str(state))
        if state.finished:
            bar = self._ids.pop(state.task)
            if state.total is None:
                self._bars.update(bar, total=state.done)
            self._bars.stop_task(bar)


def rate_text(rate: float) -> str:
    """Steps a second, or seconds a step where steps are slow; empty where nothing is known yet."""
    if not rate:
        return ""
    return f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f} s each"


def duration(seconds: float) -> str:
    """Seconds for people: ``48 s``, ``3 min 12 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
