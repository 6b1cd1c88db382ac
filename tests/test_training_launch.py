"""Training in processes of its own: told line by line, ended with its parent, gone on with after a kill."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_training import LORA, dpo_rows, kto_rows, sft_row
from tiny_model import tiny_model

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.settings.training import DpoSettings, KtoSettings, SftSettings, TrainingBase
from josh_pipeline.training.fit import last_checkpoint
from josh_pipeline.training.job import TrainingResult
from josh_pipeline.training.run import train


class Told(SilentProgress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.steps = 0
        self.total: int | None = None
        self.finished: list[str] = []

    def start(self, task: str, total: int | None) -> None:
        self.total = total

    def advance(self, task: str, steps: int = 1) -> None:
        self.steps += steps

    def finish(self, task: str) -> None:
        self.finished.append(task)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


def run(base: Path, out: Path, settings: TrainingBase, told: Told | None = None) -> TrainingResult:
    chosen = {"sft": [sft_row(n) for n in range(8)], "kto": kto_rows(8), "dpo": dpo_rows(16)}[settings.method]
    return train(chosen, base, None, out, settings, 0, told or SilentProgress(), "none")


def test_a_process_of_its_own_makes_the_same_adapter_and_tells_every_step(base: Path, tmp_path: Path):
    settings = SftSettings(lora=LORA, threads=1)
    told = Told()
    theirs = run(base, tmp_path / "theirs", settings, told)
    ours = run(base, tmp_path / "ours", settings.model_copy(update={"processes": 0}))
    assert theirs.digest == ours.digest and theirs.curve == ours.curve
    assert told.steps == told.total == len(theirs.curve) == 4
    assert told.finished == ["SFT training"]


def test_what_a_worker_refuses_is_one_sentence_here(base: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"^8 of 8 rows are longer than training\.max_tokens = 20 .*raise it\.$"):
        run(base, tmp_path, SftSettings(lora=LORA, max_tokens=20))


@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [
        (SftSettings(batch_size=2), 1e-3),
        pytest.param(DpoSettings(batch_size=4), 1e-3, marks=pytest.mark.slow),
        # The KL term is the mean over both processes, and over one batch where a process is alone.
        pytest.param(KtoSettings(batch_size=4), 1e-2, marks=pytest.mark.slow),
    ],
    ids=["sft", "dpo", "kto"],
)
def test_two_processes_take_half_of_the_batches_each_and_learn_as_one_does(
    settings: TrainingBase, tolerance: float, base: Path, tmp_path: Path
):
    common = {"lora": LORA, "threads": 1, "learning_rate": 0.01}
    alone = settings.model_copy(update={**common, "processes": 0, "accumulation": 2})
    one = run(base, tmp_path / "one", alone)
    two = run(base, tmp_path / "two", settings.model_copy(update={**common, "processes": 2}))
    assert len(one.curve) == len(two.curve) == 4
    for point, shared in zip(one.curve, two.curve, strict=True):
        assert shared["loss"] == pytest.approx(point["loss"], rel=tolerance)
        assert ("kl" in shared) == isinstance(settings, KtoSettings)


KILLED = """
import os, sys, threading, time
from pathlib import Path
sys.path[:0] = {path!r}
from test_training_launch import SETTINGS, run
from josh_pipeline.training.fit import last_checkpoint

out = Path({out!r})

def kill():
    while not any(last_checkpoint(work / "checkpoints") for work in out.glob("*")):
        time.sleep(0.01)
    os.kill(os.getpid(), 9)

threading.Thread(target=kill, daemon=True).start()
run(Path({base!r}), out, SETTINGS[{name!r}])
"""

SETTINGS = {
    "packed": SftSettings(lora=LORA, threads=1, epochs=40, processes=0),
    "plain": KtoSettings(
        lora=LORA, threads=1, epochs=20, batch_size=4, packed=False, sft_weight=0, learning_rate=1e-3, processes=0
    ),
}


@pytest.mark.parametrize("name", ["packed", pytest.param("plain", marks=pytest.mark.slow)])
def test_a_killed_training_goes_on_and_ends_as_an_undisturbed_one(name: str, base: Path, tmp_path: Path):
    out = tmp_path / "out"
    script = KILLED.format(path=sys.path, out=str(out), base=str(base), name=name)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    (work,) = out.iterdir()
    assert last_checkpoint(work / "checkpoints")
    told = Told()
    resumed = run(base, out, SETTINGS[name], told)
    undisturbed = run(base, tmp_path / "undisturbed", SETTINGS[name])
    assert resumed.digest == undisturbed.digest
    assert [point["loss"] for point in resumed.curve] == [point["loss"] for point in undisturbed.curve]
    assert told.steps == told.total


def test_checkpoints_of_another_training_are_never_gone_on_from(base: Path, tmp_path: Path):
    settings = SftSettings(lora=LORA, processes=0)
    first = run(base, tmp_path / "out", settings)
    changed = run(base, tmp_path / "out", settings.model_copy(update={"learning_rate": 1e-3}))
    alone = run(base, tmp_path / "alone", settings.model_copy(update={"learning_rate": 1e-3}))
    assert changed.digest == alone.digest != first.digest
    assert changed.adapter.parent != first.adapter.parent


def test_a_torn_checkpoint_is_passed_over(tmp_path: Path):
    for step, state in ((2, "{}"), (10, "{}"), (12, None), (14, ""), (16, '{"epoch": 1,')):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


def test_the_workers_end_with_their_parent(base: Path, tmp_path: Path):
    script = f"""
import sys
from pathlib import Path
sys.path[:0] = {sys.path!r}
from test_training_launch import run, LORA
from josh_pipeline.settings.training import SftSettings
run(Path({str(base)!r}), Path({str(tmp_path)!r}), SftSettings(lora=LORA, epochs=100000, threads=1))
"""
    parent = subprocess.Popen([sys.executable, "-c", script])
    worker = _eventually(lambda: _worker_of(parent.pid))
    _eventually(lambda: last_started(tmp_path))
    parent.kill()
    parent.wait()
    _eventually(lambda: not Path(f"/proc/{worker}").exists() or _state(worker) == "Z")


def last_started(out: Path) -> bool:
    """Tell whether the worker was given its job."""
    return any(out.glob("*/job.json"))


def _worker_of(parent: int) -> int | None:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return int(children[0]) if children else None


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _eventually(condition, seconds: float = 60.0):  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)
    return value
