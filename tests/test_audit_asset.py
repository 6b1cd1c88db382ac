"""Asset ``audit`` on a finished home: what its page shows, and what its check says."""

from pathlib import Path

import dagster as dg
import pytest
from finished_home import copied, run_stages

from assets.factory import audit
from assets.resources import Josh
from josh_pipeline.store.home import Home


def materialized(home: Home, monkeypatch: pytest.MonkeyPatch) -> dg.ExecuteInProcessResult:
    monkeypatch.setenv("JOSH_HOME", str(home.root))
    with dg.instance_for_test() as instance:
        return dg.materialize([audit], resources={"josh": Josh()}, instance=instance)


def test_a_sound_home_passes_and_shows_each_generation_with_its_digest(
    finished: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = copied(finished, tmp_path)
    result = materialized(home, monkeypatch)
    (check,) = result.get_asset_check_evaluations()
    assert check.passed
    metadata = result.asset_materializations_for_node("audit")[0].metadata
    shown = {one.data["generation"]: one.data["digest"] for one in metadata["generations"].records}
    stored = home.warehouse().rows("SELECT stage || '/' || scope || '/' || generation AS name, digest FROM generations")
    assert shown.items() >= {row["name"]: row["digest"] for row in stored}.items()
    assert metadata["broken links"].value == 0 and metadata["checked: trees"].value == 16


def test_an_altered_home_fails_the_check_and_names_what_is_broken(
    finished: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = copied(finished, tmp_path)
    with home.warehouse().connection() as connection:
        connection.execute("UPDATE episodes SET reward = 0.5")
    result = materialized(home, monkeypatch)
    (check,) = result.get_asset_check_evaluations()
    assert not check.passed and "links do not hold" in str(check.description)
    findings = result.asset_materializations_for_node("audit")[0].metadata["findings"].records
    assert {one.data["status"] for one in findings} == {"broken"}


def test_what_descends_from_a_replaced_harvest_is_shown_as_superseded(
    finished: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = copied(finished, tmp_path)
    run_stages(home, home.settings(), "again", "001", "preferences")
    result = materialized(home, monkeypatch)
    shown = result.asset_materializations_for_node("audit")[0].metadata["generations"].records
    status = {one.data["generation"]: one.data["status"] for one in shown}
    names = ("adapter/001/1", "evaluation/001/1", "promotion/001/1", "policy/002/2", "promotion/002/1")
    assert {status[name] for name in names} == {"superseded"} and status["rollouts/001/1"] == "sound"
