"""The schedules: when they tick, what a tick asks for, with which settings, and what their pages say of it."""

from pathlib import Path

import dagster as dg
import pytest
from finished_home import copied, step_of
from test_automation import allow, instance, promote, scheduled, sensed
from tiny_loop import play_with

import assets.definitions
from assets.automation import schedules
from josh_pipeline.environments.toolwoz.sample import sample_corpus
from josh_pipeline.stages.registry import LOOP, prepare
from josh_pipeline.store.home import Home

__all__ = ["instance"]


@pytest.fixture
def home(finished: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home with two promoted rounds: iteration 003 comes next."""
    made = copied(finished, tmp_path)
    monkeypatch.setenv("JOSH_HOME", str(made.root))
    return made


def test_a_tick_asks_for_the_next_iteration_and_says_with_which_settings(
    home: Home, instance: dg.DagsterInstance
) -> None:
    asked = scheduled(instance)
    assert isinstance(asked, dg.RunRequest) and asked.partition_key == "003"
    last = home.settings()
    said = {"profile": "tiny", "model": last.policy.model, "method": "sft", "settings": last.digest}
    assert asked.tags == {f"josh/{name}": value for name, value in (said | {"source": "as stored"}).items()}
    profile = asked.run_config["resources"]["josh"]["config"]["profile"]
    assert home.settings(profile) == last, "what is run meanwhile with others does not slip in"
    assert {key.to_user_string() for key in asked.asset_selection or ()} == {stage.asset for stage in LOOP}


def test_cron_and_time_zone_are_those_of_the_homes_last_run_when_definitions_are_loaded(home: Home) -> None:
    assert [one.cron_schedule for one in schedules()] == ["0 3 * * 1", "0 6 * * 0"]
    allow(home, retraining_cron="30 2 * * *", audit_cron="0 1 1 * *", timezone="Europe/Berlin", refresh_corpus=True)
    loaded = schedules()
    assert [(one.name, one.cron_schedule) for one in loaded] == [
        ("weekly_retraining", "30 2 * * *"),
        ("weekly_audit", "0 1 1 * *"),
    ]
    for one in loaded:
        assert one.execution_timezone == "Europe/Berlin"
        assert one.default_status == dg.DefaultScheduleStatus.STOPPED
        assert "take effect when this code location is reloaded" in str(one.description)
    told = str(loaded[0].description)
    assert "profile tiny" in told and "method sft" in told and "anew where it has changed" in told
    assert "of a run in this UI that made cold_start or came to promotion" in told


def test_the_audits_schedule_launches_the_whole_audit(home: Home, instance: dg.DagsterInstance) -> None:
    (weekly_audit,) = [one for one in schedules() if one.name == "weekly_audit"]
    job = assets.definitions.definitions().resolve_job_def(weekly_audit.job_name)
    result = job.execute_in_process(instance=instance)
    assert [check.passed for check in result.get_asset_check_evaluations()] == [True]


def test_faulty_settings_of_the_last_run_are_told_by_page_and_tick_and_load_all_the_same(
    home: Home, instance: dg.DagsterInstance
) -> None:
    allow(home, retraining_cron="monday")
    fault = "The last run of this home has 1 faulty setting: automation.retraining_cron: a cron string has five fields"
    loaded = schedules()
    assert loaded[0].cron_schedule == "0 3 * * 1" and fault in str(loaded[0].description)
    assert fault in str(scheduled(instance))
    promote(instance, "001", "002")
    assert fault in str(sensed(instance))


def test_definitions_are_loaded_without_making_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOSH_HOME", str(tmp_path / "none"))
    assert schedules()[0].cron_schedule == "0 3 * * 1"
    assert not (tmp_path / "none").exists()


def test_an_endpoints_policy_is_not_retrained(home: Home, instance: dg.DagsterInstance) -> None:
    settings = home.settings("", {"policy": {"endpoint": "http://localhost:1/v1"}})
    prepare(step_of(home, settings, "endpoint"))
    assert isinstance(scheduled(instance), dg.RunRequest), "what only prepares or evaluates is no run to go on from"
    home.remember_settings(settings)
    assert "whose weights cannot be trained here" in str(scheduled(instance))


def test_an_iteration_that_would_train_an_endpoints_policy_ends_before_its_rollouts(
    home: Home, instance: dg.DagsterInstance
) -> None:
    settings = {"policy": {"endpoint": "http://localhost:1/v1"}}
    instance.add_dynamic_partitions("iteration", ["003"])
    result = (
        assets.definitions.definitions()
        .resolve_job_def("iteration")
        .execute_in_process(
            instance=instance,
            partition_key="003",
            run_config={"resources": {"josh": {"config": {"settings": settings}}}},
            raise_on_error=False,
        )
    )
    (failed,) = [event for event in result.all_events if event.is_step_failure]
    assert failed.step_key == "policy"
    assert "cannot be trained here" in str(failed.step_failure_data.user_failure_data.description)


def test_a_source_that_has_changed_is_read_anew_where_it_is_asked_for(
    home: Home, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    play_with(monkeypatch, lambda digest: 0.8)
    allow(home, refresh_corpus=True)
    unchanged = scheduled(instance)
    assert isinstance(unchanged, dg.RunRequest) and unchanged.tags["josh/source"] == "as stored"

    before = home.warehouse().rows("SELECT corpus_digest FROM current_corpora")
    monkeypatch.setattr(
        "josh_pipeline.environments.toolwoz.environment.sample_corpus", lambda size, seed: sample_corpus(size, seed + 1)
    )
    asked = scheduled(instance)
    assert isinstance(asked, dg.RunRequest) and asked.tags["josh/source"] == "changed, read anew"
    assets.definitions.definitions().resolve_job_def("retraining").execute_in_process(
        instance=instance,
        partition_key=asked.partition_key,
        asset_selection=list(asked.asset_selection or ()),
        run_config=asked.run_config,
    )
    after = home.warehouse().rows("SELECT corpus_digest FROM current_corpora")
    played = home.warehouse().rows("SELECT corpus_digest FROM current_policies WHERE iteration = '003'")
    assert before != after == played

    allow(home, refresh_corpus=False)
    monkeypatch.undo()
    monkeypatch.setenv("JOSH_HOME", str(home.root))
    stored = scheduled(instance)
    assert isinstance(stored, dg.RunRequest) and stored.tags["josh/source"] == "as stored"


def test_a_whole_round_from_the_launchpad_is_what_the_next_tick_goes_on_with_and_a_single_assets_rerun_is_not(
    home: Home, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    play_with(monkeypatch, lambda digest: 0.8)
    instance.add_dynamic_partitions("iteration", ["003"])

    def launch(goals: int, selection: list[str] | None) -> int:
        assets.definitions.definitions().resolve_job_def("iteration").execute_in_process(
            instance=instance,
            partition_key="003",
            asset_selection=[dg.AssetKey(name) for name in selection] if selection else None,
            run_config={"resources": {"josh": {"config": {"settings": {"search": {"goals": goals}}}}}},
        )
        asked = scheduled(instance)
        assert isinstance(asked, dg.RunRequest)
        return home.settings(asked.tags["josh/settings"]).search.goals

    before = home.settings().search.goals
    assert launch(3, ["policy", "beam_rollouts"]) == before
    assert launch(4, None) == 4
