"""The gate inside the loop: drift is measured once a policy, shown, and refused where it is too much."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from test_assets import Loop, open_loop
from tiny_loop import SETTINGS, play_with

from josh_pipeline.core.errors import UserError


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    """A loop that allows next to no drift."""
    yield from open_loop(tmp_path, monkeypatch, evaluation=SETTINGS["evaluation"] | {"max_drift": 1e-9})


def test_a_better_candidate_that_drifted_too_far_is_refused_as_a_result(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = str(loop.rows("SELECT base_digest FROM current_base_models")[0]["base_digest"])
    play_with(monkeypatch, lambda digest: 0.5 if digest == base else 0.9)
    loop.run("baseline")
    loop.run("iteration", "001")

    drifts = loop.rows("SELECT * FROM current_drifts ORDER BY iteration")
    assert drifts[0]["drift"] == 0.0, "without a cold start the base is the foundation"
    assert 0 < float(str(drifts[1]["low"])) <= float(str(drifts[1]["drift"])) <= float(str(drifts[1]["high"]))
    promotion = loop.rows("SELECT * FROM current_promotions WHERE iteration = '001'")[0]
    assert not promotion["promoted"]
    assert f"{drifts[1]['drift']:.3f} nats a token, not within" in str(promotion["reason"])
    assert "a regression" not in str(promotion["reason"])

    checks = {
        check.check_name: check
        for run in loop.instance.get_run_records()
        if run.dagster_run.tags.get("dagster/partition") == "001"
        for entry in loop.instance.all_logs(run.dagster_run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        for check in [entry.get_dagster_event().asset_check_evaluation_data]
    }
    assert checks["no_regression"].passed and not checks["drift"].passed
    assert checks["drift"].severity == dg.AssetCheckSeverity.WARN
    assert checks["drift"].metadata["drift"].value == drifts[1]["drift"]

    loop.instance.add_dynamic_partitions("iteration", ["002"])
    with pytest.raises(UserError, match="001 was not promoted, so 002 has nothing to go on from"):
        loop.run("iteration", "002", ["policy"])


def test_what_was_measured_and_counted_of_a_policy_is_not_measured_again(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    play_with(monkeypatch, lambda digest: 0.8)
    loop.run("baseline")
    before = loop.rows("SELECT * EXCLUDE (generation) FROM current_drifts")
    spent = loop.rows("SELECT requests, prompt_tokens, completion_tokens, seconds FROM episodes ORDER BY ALL")
    assert all(int(str(row["requests"])) > 0 and float(str(row["seconds"])) > 0 for row in spent)
    loop.run("baseline")
    assert loop.rows("SELECT * EXCLUDE (generation) FROM current_drifts") == before
    assert loop.rows("SELECT DISTINCT generation FROM current_drifts") == [{"generation": 2}]
    again = loop.rows("SELECT requests, prompt_tokens, completion_tokens, seconds FROM episodes ORDER BY ALL")
    assert again == spent
