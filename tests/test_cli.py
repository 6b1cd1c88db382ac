"""The command line as people use it: results, mistakes, and Ctrl-C."""

import io
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
from tiny_loop import SETTINGS, play_with, tiny_profile

from assets.cli import run as main
from josh_pipeline.cli.main import main as library_main
from josh_pipeline.cli.main import parser
from josh_pipeline.cli.options import settings_of
from josh_pipeline.core.errors import UserError
from josh_pipeline.stages.registry import open_home

COMMANDS = (
    "iterate",
    "goals",
    "replay",
    "solvability",
    "evaluate",
    "scores",
    "report",
    "tree",
    "audit",
    "export",
    "gc",
    "ui",
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JOSH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"example:\n  josh {command}" in capsys.readouterr().out


def test_the_library_has_its_commands_without_those_of_other_layers(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        library_main(["iterate"])
    assert ended.value.code == 2
    assert "'evaluate'" in (said := capsys.readouterr().err) and "'ui'" not in said


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"josh {version('josh-pipeline')}\n"


def test_an_environment_and_a_corpus_are_laid_over_the_settings(home: Path) -> None:
    chosen = parser().parse_args(["evaluate", "--env", "toolwoz", "--corpus", "somewhere", "--seed", "0"])
    settings = settings_of(open_home(), chosen)
    assert settings.environment.model_dump()["corpus"]["source"] == "somewhere"
    assert (settings.environment.name, settings.seed) == ("toolwoz", 0)
    with pytest.raises(UserError, match="nowhere"):
        settings_of(open_home(), parser().parse_args(["evaluate", "--env", "nowhere.py:None"]))


def test_a_corpus_and_a_model_in_this_folder_are_kept_by_a_path_that_holds_elsewhere(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("corpus", "mine", "sample", "smollm2"):
        (tmp_path / name).mkdir()

    def chosen(corpus: str, model: str) -> tuple[str, str]:
        settings = settings_of(open_home(), parser().parse_args(["evaluate", "--corpus", corpus, "--model", model]))
        return settings.environment.model_dump()["corpus"]["source"], settings.policy.model

    assert chosen("corpus", "./mine") == (str(tmp_path / "corpus"), str(tmp_path / "mine"))
    assert chosen("sample", "smollm2") == ("sample", "smollm2"), "what is built in is no folder"
    assert chosen("http://host/corpus.zip", "org/model") == ("http://host/corpus.zip", "org/model")


def test_iterate_ends_with_scores_and_a_report_that_scores_and_report_repeat(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play_with(monkeypatch, lambda digest: 0.8)
    profile = str(tiny_profile(tmp_path))
    assert main(["iterate", "--profile", profile, "--seed", "3"]) == 0
    out = capsys.readouterr().out
    *_, report_line, model_line = out.splitlines()
    report = Path(report_line.removeprefix("Report: "))
    assert "<html" in report.read_text()
    assert "base" in out and "round 1" in out
    assert "a perfect agent reaches 100.0 % of these 12 goals" in out
    command = shlex.split(model_line.removeprefix("Model: josh "))
    command[command.index("--out") + 1] = str(tmp_path / "exported")
    assert main(command) == 0
    assert (tmp_path / "exported" / "adapter").is_dir() and "round 1" in capsys.readouterr().out

    assert main(["scores", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    contract = {"iteration", "policy", "corpus", "goals", "n", "reward", "success", "low", "high", "promoted"}
    assert all(contract <= line.keys() for line in lines)
    assert [(line["iteration"], line["goals"], line["n"]) for line in lines] == [
        (0, "parts", 12),
        (1, "parts", 12),
        (1, "whole", 5),
    ]

    assert main(["evaluate", "--policy", "1", "--number", "12", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["policy"], found["reward"]) == (lines[1]["policy"], lines[1]["reward"])
    assert main(["evaluate", "--policy", "1", "--number", "12"]) == 0
    shown = capsys.readouterr().out
    assert "success, search (n=12)" in shown and "turns without an answer" in shown
    assert f"{found['usage']['requests']:,}" in shown and found["usage"]["requests"] >= 12
    runs = open_home().warehouse().rows("SELECT DISTINCT seed FROM runs")
    assert runs == [{"seed": 3}], "evaluate goes on with the settings of the last run"

    rollout = open_home().warehouse().rows("SELECT rollout_id FROM trees LIMIT 1")[0]["rollout_id"]
    assert main(["tree", rollout[:12]]) == 0
    assert rollout in capsys.readouterr().out
    assert main(["report", "1"]) == 0
    assert Path(capsys.readouterr().out.strip()).is_file()


def test_scores_of_an_empty_home_say_what_to_run(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scores"]) == 1
    assert "run josh iterate first" in capsys.readouterr().err


def test_a_refused_candidate_is_a_result_unless_promotion_is_required(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def skill(digest: str) -> float:
        asked.append(digest)
        return 0.8 if digest == asked[0] else 0.0

    play_with(monkeypatch, skill)
    profile = str(tiny_profile(tmp_path))
    assert main(["iterate", "--profile", profile, "--iterations", "3"]) == 0
    assert "Iteration 001 not promoted. Mean reward" in " ".join(capsys.readouterr().err.split())
    assert main(["iterate", "--require-promotion"]) == 1
    attempts = open_home().warehouse().rows("SELECT iteration, attempt FROM current_policies ORDER BY ALL")
    assert attempts == [{"iteration": "000", "attempt": 1}, {"iteration": "001", "attempt": 2}]


def broken_zip(folder: Path) -> Path:
    path = folder / "broken.zip"
    path.write_bytes(b"PK\x03\x04 and then nothing")
    return path


def no_goals(folder: Path) -> Path:
    corpus = folder / "empty"
    corpus.mkdir()
    taxi = {"goal": {"taxi": {"info": {"departure": "x"}}, "message": []}, "log": [{"text": "Hi", "metadata": {}}]}
    (corpus / "data.json").write_text(json.dumps({"MUL1.json": taxi}))
    for name in ("valListFile", "testListFile"):
        (corpus / name).write_text("")
    for domain in ("hotel", "restaurant", "attraction", "train"):
        (corpus / f"{domain}_db.json").write_text('[{"name": "somewhere"}]')
    return corpus


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--corpus", "nowhere"], "no corpus at"),
        (["--corpus", "{broken}"], "is not a zip file"),
        (["--corpus", "{no_goals}"], "has no usable"),
        (["--model", "./no-such-model"], "no-such-model"),
        (["--profile", "no-such-profile"], "No profile 'no-such-profile'"),
        (["--profile", "{bad_profile}"], "search.beams"),
        (["--home", "/proc/home"], "cannot be written to"),
        (["--endpoint", "http://127.0.0.1:9/v1", "--model", "m"], "Nothing answers at"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_the_store_unharmed(
    arguments: list[str], said: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad_profile = tmp_path / "bad.yaml"
    bad_profile.write_text("search: {beams: 3}\nseed: -1\n")
    places = {"broken": broken_zip(tmp_path), "no_goals": no_goals(tmp_path), "bad_profile": bad_profile}
    profile = [] if "--profile" in arguments else ["--profile", str(tiny_profile(tmp_path))]
    assert main(["iterate", *profile, *(text.format(**places) for text in arguments)]) == 1
    told = capsys.readouterr().err
    sentence = [line for line in told.splitlines() if line.startswith("josh: ")]
    assert len(sentence) == 1 and said in sentence[0]
    assert "Traceback" not in told
    if (home / "josh.duckdb").exists():
        assert open_home().warehouse().rows("SELECT * FROM trees") == []


def test_ui_refuses_a_port_that_is_in_use(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["ui", "--port", str(port)]) == 1
    assert f"Port {port} on 127.0.0.1 cannot be used" in capsys.readouterr().err


def test_goals_can_be_piped_into_a_reader_that_stops_early() -> None:
    shell = f"{sys.executable} -m josh_pipeline.cli goals | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", shell], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["goal_id"]


def test_replay_reads_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("nonsense\n"))
    assert main(["replay", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["line"] == 1


def test_usage_faults_exit_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["evaluate", "--number", "none"])
    assert ended.value.code == 2
    assert "whole number" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["goals", "--sed", "3"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "josh goals: error: unrecognized arguments: --sed 3" in said and "[--split NAME]" in said


def test_ctrl_c_leaves_no_process_and_the_next_run_goes_on(home: Path, tmp_path: Path) -> None:
    search = {**SETTINGS["search"], "in_flight": 2}
    profile = str(tiny_profile(tmp_path, search=search))
    tests = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": str(tests)}

    def josh(delay: float) -> subprocess.Popen[str]:
        command = [sys.executable, str(tests / "slow_josh.py"), str(delay), "iterate", "--profile", profile]
        return subprocess.Popen(command, env=environment, text=True, stderr=subprocess.PIPE, start_new_session=True)

    interrupted = josh(0.4)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and trees(home) == []:
        time.sleep(0.3)
    interrupted.send_signal(signal.SIGINT)
    _, said = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 130, said
    assert "the same command goes on from here" in said and "Traceback" not in said
    with pytest.raises(ProcessLookupError):
        os.killpg(interrupted.pid, 0)
    kept = trees(home)
    assert 0 < len(kept) < 8

    assert josh(0.0).wait(timeout=120) == 0
    assert set(kept) <= set(trees(home)) and len(trees(home)) == 8


def trees(home: Path) -> list[tuple[str, str]]:
    """Rollout ids with the run that made each."""
    if not (home / "josh.duckdb").exists():
        return []
    found = open_home(home).warehouse().rows("SELECT rollout_id, run_id FROM trees ORDER BY ALL")
    return [(row["rollout_id"], row["run_id"]) for row in found]
