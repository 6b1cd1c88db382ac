"""Progress: what a watcher is told, and how often."""

import io
import re

from rich.console import Console

from josh_pipeline.core.progress import Progress, SilentProgress, TaskState, TerminalProgress, ThrottledProgress


def work(progress: Progress, steps: int) -> None:
    progress.start("Rolling out", steps)
    for _ in range(steps):
        progress.advance("Rolling out")
    progress.note("half of [them] earned the full reward")
    progress.finish("Rolling out")


def test_work_may_report_to_silence() -> None:
    assert work(SilentProgress(), 3) is None


def test_a_terminal_shows_a_bar_with_its_count_and_notes_verbatim() -> None:
    screen = io.StringIO()
    with TerminalProgress(Console(file=screen, force_terminal=True, width=120)) as progress:
        work(progress, 3)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", screen.getvalue())
    assert "Rolling out" in text
    assert "3/3" in text
    assert "half of [them] earned the full reward" in text


def test_output_that_is_no_terminal_gets_one_plain_line_a_task() -> None:
    screen = io.StringIO()
    with TerminalProgress(Console(file=screen, force_terminal=False, width=120)) as progress:
        work(progress, 3)
    lines = screen.getvalue().strip().splitlines()
    assert lines[0] == "half of [them] earned the full reward"
    assert lines[1].startswith("Rolling out: 3 in 0 s")
    assert len(lines) == 2


def test_output_that_is_no_terminal_hears_once_a_minute_of_every_running_task() -> None:
    screen, now = io.StringIO(), 0.0
    console = Console(file=screen, force_terminal=False, width=120)
    with TerminalProgress(console, clock=lambda: now) as progress:
        progress.start("Rolling out", 200)
        progress.start("Reading [the] archive", None)
        for second in range(150):
            now = float(second)
            progress.advance("Rolling out")
            if second % 30 == 29:
                progress.advance("Reading [the] archive")
        progress.finish("Rolling out")
        progress.finish("Reading [the] archive")
    assert screen.getvalue().splitlines() == [
        "Rolling out: 61 of 200 after 1 min 00 s, 1.0/s, 2 min 17 s left",
        "Reading [the] archive: 3 after 1 min 29 s, 29.7 s each",
        "Rolling out: 121 of 200 after 2 min 00 s, 1.0/s, 1 min 18 s left",
        "Reading [the] archive: 5 after 2 min 29 s, 29.8 s each",
        "Rolling out: 150 in 149 s, 1.0/s",
        "Reading [the] archive: 5 in 149 s, 29.8 s each",
    ]


def test_a_task_may_be_started_again_after_it_finished() -> None:
    screen = io.StringIO()
    with TerminalProgress(Console(file=screen, force_terminal=False, width=120)) as progress:
        work(progress, 1)
        work(progress, 2)
    assert "Rolling out: 2 in" in screen.getvalue()


def test_snapshots_come_once_an_interval_and_at_the_end() -> None:
    now = 0.0
    seen: list[TaskState] = []
    said: list[str] = []
    progress = ThrottledProgress(seen.append, said.append, interval=60, clock=lambda: now)
    progress.start("trees", 200)
    for second in range(150):
        now = float(second)
        progress.advance("trees")
    progress.note("done")
    progress.finish("trees")
    assert [(s.done, s.finished) for s in seen] == [(61, False), (121, False), (150, True)]
    assert said == ["done"]


def test_a_snapshot_tells_rate_and_time_left() -> None:
    half = TaskState("trees", done=50, total=100, seconds=25.0, finished=False)
    assert half.rate == 2.0
    assert half.seconds_left == 25.0
    assert TaskState("trees", 0, 100, 0.0, finished=False).seconds_left is None
    assert TaskState("trees", 5, None, 1.0, finished=False).seconds_left is None
