"""What the command line says where somebody slips: one true sentence that says what to do, and nothing done."""

import errno
import json
import re
import time
from pathlib import Path

import duckdb
import pytest
from finished_home import copied, step_of
from tiny_loop import play_with, tiny_profile

from assets.cli import run as main
from josh_pipeline.report.words import ONE_RUN
from josh_pipeline.settings import load_settings
from josh_pipeline.stages.preferences import rows_sound
from josh_pipeline.stages.registry import open_home
from josh_pipeline.store.home import Home

EXPERIMENTS = Path(__file__).parent.parent / "EXPERIMENTS.md"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOSH_HOME", raising=False)
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.chdir(tmp_path)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that has to fail, and return its one sentence."""
    assert main(arguments) == 1
    said = capsys.readouterr().err
    sentences = [line.removeprefix("josh: ") for line in said.splitlines() if line.startswith("josh: ")]
    assert len(sentences) == 1 and "Traceback" not in said, said
    return sentences[0]


@pytest.mark.parametrize(
    "arguments",
    [("scores",), ("report",), ("tree", "a"), ("audit",), ("audit", "1"), ("export", "--out", "out"), ("gc",)],
    ids=" ".join,
)
def test_what_only_reads_makes_no_home(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "program").mkdir()
    for place in ("typo", "program"):
        said = refused(capsys, *arguments, "--home", place)
        assert said == (
            f"There is no home at {tmp_path / place}: run josh iterate first, or name a home with --home or JOSH_HOME."
        )
    assert list(tmp_path.rglob("*")) == [tmp_path / "program"]


def test_a_home_is_not_made_in_a_folder_of_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "program"
    (other / "models").mkdir(parents=True)
    (other / "app.py").write_text("")
    for command in ("iterate", "evaluate", "ui"):
        said = refused(capsys, command, "--home", "program")
        assert said.startswith(f"{other} is no home, and holds other things ('app.py'): name a new or an empty folder")
    assert sorted(one.name for one in other.iterdir()) == ["app.py", "models"]


def test_a_home_whose_store_was_removed_is_one_still(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    for left in ("adapters", "locks", "josh.version-3.duckdb", "iterate.lock", ".DS_Store"):
        (home.root / left).touch()
    assert open_home(home.root) == home


def test_a_report_of_an_iteration_that_is_not_there_names_those_that_are(
    finished: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    for written, key in (("005", "005"), ("5", "005"), ("abc", "abc"), ("²", "²")):
        said = refused(capsys, "report", written, "--home", str(finished.root))
        assert said == (
            f"Iteration {key} has not been evaluated in this home: take one of 000, 001, 002, or finish it."
        )


def test_digits_that_are_no_iteration_of_the_home_begin_a_row_s_id(
    finished: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ("--home", str(finished.root))
    ids = [row["row_id"] for row in finished.warehouse().rows("SELECT row_id FROM current_preference_rows")]
    digits = sorted({one[:3] for one in ids if one[:3].isdecimal()})
    prefix = next(one for one in digits if sum(row.startswith(one) for row in ids) == 1 and int(one) > 2)
    assert main(["audit", prefix, *home]) == 0
    assert f"row {prefix}" in capsys.readouterr().out
    assert main(["audit", prefix, "--html", "row.html", *home]) == 0
    assert capsys.readouterr().out == "row.html\n" and prefix in (tmp_path / "row.html").read_text()
    assert main(["audit", "1", "--json", *home]) == 0
    assert "links" not in json.loads(capsys.readouterr().out), "an iteration that is there comes first"
    nowhere = next(str(number) for number in range(100, 999) if not any(one.startswith(str(number)) for one in ids))
    assert f"No training row begins with '{nowhere}': give an iteration of this home, or" in refused(
        capsys, "audit", nowhere, *home
    )
    assert f"No iteration is called '{nowhere}', and no policy begins so" in refused(
        capsys, "evaluate", "--policy", nowhere, *home
    )


def test_a_source_and_an_iteration_are_not_asked_for_together(
    finished: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    source = finished.warehouse().rows("SELECT source_id FROM goals LIMIT 1")[0]["source_id"]
    said = refused(capsys, "audit", "--dialogue", source, "001", "--home", str(finished.root))
    assert said == "--source follows a source through all iterations: leave 001 out."


def test_a_role_and_a_selection_are_not_asked_for_together(capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, "evaluate", "--split", "test-450", "--role", "val")
    assert said == "--split is a selection of its own: leave --role out."


def test_every_command_that_writes_a_file_makes_its_folders_or_says_why_not(
    finished: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = copied(finished, tmp_path)
    read = home.warehouse().rows(
        "SELECT (SELECT min(row_id) FROM preference_rows) AS row, min(rollout_id) AS tree FROM trees"
    )
    row, tree = read[0]["row"], read[0]["tree"]
    (tmp_path / "file").write_text("")
    for place, status in (("new/folders", 0), ("file/in", 1)):
        for command in (
            ["audit", row, "--html", f"{place}/row.html"],
            ["tree", tree, "--html", f"{place}/tree.html"],
            ["export", "--out", f"{place}/export", "--format", "jsonl"],
        ):
            assert main([*command, "--home", str(home.root)]) == status
            said = capsys.readouterr().err
            assert status == 0 or re.search(r"^josh: file/in/\S+ cannot be written \(.*\): give another place\.$", said)
    assert {one.name for one in (tmp_path / "new/folders").iterdir()} == {"row.html", "tree.html", "export"}
    (tmp_path / "new/folders/export/tables/goals.parquet").mkdir(parents=True)
    said = refused(capsys, "export", "--out", "new/folders/export", "--home", str(home.root))
    assert said.startswith("new/folders/export") and said.endswith(": give another place.")


def test_replay_says_at_the_end_how_many_lines_were_bad(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["goals"]) == 0
    goal = json.loads(capsys.readouterr().out.splitlines()[0])
    good = json.dumps({"dialogue_id": goal["dialogue_id"], "calls": []})
    (tmp_path / "calls.jsonl").write_text(f"{good}\nnonsense\n{good}\n")
    for strict, status in (([], 0), (["--strict"], 1)):
        assert main(["replay", "calls.jsonl", *strict]) == status
        said = capsys.readouterr()
        assert len(said.out.splitlines()) == 3
        assert said.err == "josh: 1 of 3 lines could not be replayed: each has its error.\n"
    (tmp_path / "calls.jsonl").write_text(f"{good}\n")
    assert main(["replay", "calls.jsonl", "--strict"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", ["iterate", "evaluate"])
@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1", "http://no-such-host.invalid/v1"])
def test_an_endpoint_that_is_not_there_is_said_before_anything_starts(
    command: str, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began = time.monotonic()
    said = refused(capsys, command, "--endpoint", url, "--model", "m", "--home", "home")
    assert said.startswith(f"Nothing answers at {url} (ConnectError: ")
    assert time.monotonic() - began < 2
    assert not (tmp_path / "home/josh.duckdb").exists() and not (tmp_path / "home/settings").exists()


def test_the_endpoint_of_the_user_is_asked_before_anything_starts_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    user = {"kind": "goal", "model": "u", "endpoint": "http://127.0.0.1:9/v1"}
    said = refused(capsys, "iterate", "--profile", str(tiny_profile(tmp_path, user=user)), "--home", "home")
    assert said.startswith("Nothing answers at http://127.0.0.1:9/v1")
    assert not (tmp_path / "home/josh.duckdb").exists()


def test_an_evaluation_in_an_empty_home_says_what_it_makes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play_with(monkeypatch, lambda digest: 0.8)
    arguments = ["evaluate", "--profile", str(tiny_profile(tmp_path)), "--number", "2", "--home", "home"]
    assert main(arguments) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("Preparing 'sample' and ") and "once in this home: " in said and "cold_start" in said
    assert main(arguments) == 0
    assert "Preparing" not in capsys.readouterr().err


def test_where_no_tree_earned_anything_the_advice_fits_the_kind_of_policy(finished: Home, tmp_path: Path) -> None:
    home = copied(finished, tmp_path)
    step = step_of(home, home.settings(), "advice")
    assert "raise cold_start.conversations" in rows_sound(step, []).sentence
    policy = {"endpoint": "http://127.0.0.1:9/v1"}
    away = step_of(home, load_settings("quickstart", {"policy": policy}), "advice")
    assert "cold start" not in (said := rows_sound(away, []).sentence.replace("_", " ")), said
    assert "take another model" in said


def test_scores_and_report_say_how_far_one_run_tells(
    finished: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied(finished, tmp_path)
    assert main(["scores", "--home", "home"]) == 0
    assert ONE_RUN in " ".join(capsys.readouterr().out.split())
    assert main(["report", "--home", "home"]) == 0
    assert ONE_RUN in Path(capsys.readouterr().out.strip()).read_text()
    entry = EXPERIMENTS.read_text().split("One seed is not one run\n")[1].split("\n## ")[0]
    ended = [float(line.split("|")[-2].split("%")[0]) for line in entry.splitlines() if line.startswith("| 2026")]
    assert len(ended) == 4 and f"up to {max(ended) - min(ended):.1f} points apart" in ONE_RUN


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            duckdb.TransactionException("Failed to commit: No space left on device"),
            "No space is left on the disk: free",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "No space is left on the disk: free some"),
        (PermissionError(errno.EACCES, "Permission denied", "a/lock"), "a/lock is closed to you (Permission denied): "),
    ],
)
def test_a_full_disk_and_a_closed_folder_are_told_wherever_they_are_met(
    fault: Exception, said: str, finished: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise fault

    monkeypatch.setattr("josh_pipeline.cli.home.find_waste", broken)
    assert refused(capsys, "gc", "--dry-run", "--home", str(finished.root)).startswith(said)


@pytest.mark.parametrize(
    ("profile", "reason"),
    [("binary.yaml", "it is no text"), ("folder", "Is a directory"), ("nowhere", "No such file or directory")],
)
def test_a_profile_that_cannot_be_read_says_why(
    profile: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    (tmp_path / "folder").mkdir()
    said = refused(capsys, "iterate", "--profile", profile, "--home", "home")
    assert said.startswith(f"No profile '{profile}' ({reason}): use one of cpu-hour, ")
