"""``josh gc``: what goes, what stays, and that it says so."""

import os
import time
from pathlib import Path

import pytest
from finished_home import copied, run_iteration
from tiny_loop import play_with

from josh_pipeline.audit.whole import audit_home
from josh_pipeline.cli.main import main
from josh_pipeline.core.locks import alone, at_work
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.store.gc import RESUMABLE_S, find_waste
from josh_pipeline.store.home import Home


@pytest.fixture
def home(finished: Home, tmp_path: Path) -> Home:
    return copied(finished, tmp_path)


def gc(home: Home, *options: str) -> int:
    return main(["gc", "--home", str(home.root), *options])


def digests(home: Home) -> dict[str, str]:
    rows = home.warehouse().rows("SELECT iteration, adapter_digest FROM current_trainings ORDER BY 1")
    return {row["iteration"]: row["adapter_digest"] for row in rows}


def test_unreferenced_adapters_checkpoints_and_work_folders_go(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    kept = digests(home)
    lost, stale, fresh = home.adapters / "0123456789abcdef", home.training / "old", home.training / "new"
    for folder in (lost, stale, fresh, home.merged / "fedcba9876543210", home.models / "base-0123"):
        folder.mkdir(parents=True)
        (folder / "adapter_model.safetensors").write_bytes(b"x" * 1500)
    lost.with_suffix(".json").write_text("{}")
    long_ago = time.time() - 2 * RESUMABLE_S
    for path in (stale / "adapter_model.safetensors", stale):
        os.utime(path, (long_ago, long_ago))

    assert gc(home, "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "adapters/0123456789abcdef, 1.5 kB" in shown and "Would remove" in shown and lost.is_dir()

    assert gc(home) == 0
    assert "Removed" in capsys.readouterr().out
    gone = (lost, lost.with_suffix(".json"), stale, home.merged / "fedcba9876543210", home.models / "base-0123")
    assert not any(path.exists() for path in gone)
    assert fresh.is_dir(), "an interrupted training may go on"
    assert all((home.adapters / name).is_dir() for name in kept.values())
    assert audit_home(home, None, SilentProgress())[0].sound


def test_generations_that_nothing_kept_descends_from_go_and_the_chain_stays_whole(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    before = home.warehouse().rows("SELECT * FROM nodes ORDER BY ALL")
    assert gc(home) == 0
    assert "policy/001/1" in capsys.readouterr().out, "the promotion of 000 opened it, the run replaced it"
    assert home.warehouse().rows("SELECT * FROM nodes ORDER BY ALL") == before
    assert not home.warehouse().rows("SELECT * FROM policies WHERE iteration = '001' AND generation = 1")
    audit, known, _ = audit_home(home, None, SilentProgress())
    assert audit.sound
    assert {written.name for written in known.values() if written.removed} == {
        finding.where for finding in audit.of("removed")
    }
    assert not find_waste(home).generations, "a second time there is nothing to do"


def test_what_a_kept_adapter_descends_from_stays_after_a_rerun(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    first = digests(home)["001"]
    play_with(monkeypatch, lambda digest: 0.8)
    run_iteration(home, home.settings(), "001", "again")
    assert gc(home) == 0
    current = home.warehouse().rows("SELECT generation FROM generations WHERE scope = '002' AND current")
    assert current
    kept = home.warehouse().rows("SELECT 1 FROM trainings WHERE adapter_digest = ?", [first])
    assert kept and (home.adapters / first).is_dir(), "iteration 002 went on from it"
    assert audit_home(home, "002", SilentProgress())[0].sound


def test_a_rerun_that_nothing_went_on_from_goes_with_its_trees(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    play_with(monkeypatch, lambda digest: 0.8)
    old = home.warehouse().rows("SELECT rollout_id FROM current_rollouts WHERE iteration = '002'")
    other = home.settings().model_copy(update={"seed": 5})
    run_iteration(home, other, "002", "again")
    waste = find_waste(home)
    assert waste.rows["trees"] == len(old) and waste.rows["preference_rows"] > 0
    assert gc(home) == 0
    left = home.warehouse().query("SELECT rollout_id FROM trees")["rollout_id"].to_list()
    assert not {row["rollout_id"] for row in old} & set(left)
    assert audit_home(home, None, SilentProgress())[0].sound


def test_a_refused_adapter_stays_for_the_audit(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with home.warehouse().connection() as connection:
        connection.execute("UPDATE promotions SET promoted = false WHERE iteration = '002'")
    refused = digests(home)["002"]
    play_with(monkeypatch, lambda digest: 0.8)
    run_iteration(home, home.settings(), "002", "second attempt")
    assert gc(home) == 0
    assert home.warehouse().rows("SELECT 1 FROM trainings WHERE adapter_digest = ?", [refused])
    assert (home.adapters / refused).is_dir()


def test_a_home_in_use_is_left_alone(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    with at_work(home.root), at_work(home.root):
        assert gc(home) == 1
    assert "A run works in" in capsys.readouterr().err
    with alone(home.root / "iterate.lock", "taken"):
        assert gc(home) == 1
    assert gc(home, "--dry-run") == 0
