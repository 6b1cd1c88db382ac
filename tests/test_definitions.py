"""The Dagster layer as loaded: the graph, its checks, its columns, and what is on by default."""

import contextlib
import subprocess
import sys
from pathlib import Path

import dagster as dg
import dagster._cli.dev
import dagster._config.validate
import dagster_webserver.app
import pytest
from dagster._core.workspace.load_target import WorkspaceFileTarget, get_origins_from_toml

import assets
import josh_pipeline.stages
from assets.automation import next_round, schedules
from assets.definitions import defs
from assets.factory import ITERATIONS, LOOP_POOL, tables_of, together
from assets.launch import INSTANCE, LOCATION
from assets.serve import UNKNOWN_NAMES, Webserver, put_in_place, started
from josh_pipeline.stages.registry import STAGES
from josh_pipeline.store.schema import columns

LOOP = {
    "policy": {"toolwoz_goals", "cold_start", "base_evaluation"},
    "beam_rollouts": {"policy"},
    "reward_labels": {"policy", "beam_rollouts"},
    "preference_pairs": {"policy", "beam_rollouts", "reward_labels"},
    "lora_adapter": {"policy", "preference_pairs"},
    "benchmark_evaluation": {"policy", "lora_adapter"},
    "promotion": {"policy", "lora_adapter", "benchmark_evaluation"},
    "toolwoz_benchmark": {"promotion"},
}
ENVIRONMENT = {
    "multiwoz_dialogues": set(),
    "toolwoz_goals": {"multiwoz_dialogues"},
    "cold_start": {"toolwoz_goals"},
    "base_evaluation": {"toolwoz_goals", "cold_start"},
}
AUDIT = {"audit": {"promotion"}}
GROUPS = {"audit": "audit", "toolwoz_benchmark": "benchmark"}
TABLES = {stage.asset: tables_of(stage) for stage in STAGES}
ORIGINS = {column: sources for stage in STAGES for column, sources in stage.origins.items()}


def specs() -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}


def test_the_graph_is_the_chain_of_the_design() -> None:
    graph = {name: {dep.asset_key.to_user_string() for dep in spec.deps} for name, spec in specs().items()}
    assert graph == ENVIRONMENT | LOOP | AUDIT


def test_what_the_graph_draws_is_what_stages_declare_to_read() -> None:
    of_stage = {stage.name: stage for stage in STAGES}
    for stage in STAGES:
        drawn = {dep.asset_key.to_user_string() for dep in specs()[stage.asset].deps}
        before = {"base_evaluation"} if "promotion" in stage.earlier else set()
        assert drawn == {of_stage[name].asset for name in stage.inputs} | before


def test_assets_are_grouped_described_and_owned() -> None:
    for name, spec in specs().items():
        assert spec.group_name == GROUPS.get(name, "environment" if name in ENVIRONMENT else "iteration")
        assert spec.description and len(spec.description) > 80, name
        assert spec.owners and spec.kinds


def test_everything_in_the_loop_is_partitioned_by_iteration_and_runs_one_at_a_time() -> None:
    for name, spec in specs().items():
        assert (spec.partitions_def == ITERATIONS) == (name in LOOP and name != "toolwoz_benchmark")
    graph = defs.resolve_asset_graph()
    assert all(graph.get(dg.AssetKey(name)).pools == {LOOP_POOL} for name in [*LOOP, "base_evaluation"])
    assert INSTANCE["concurrency"]["pools"] == {"granularity": "run", "default_limit": 1}


CHECKS = {
    "corpus_complete": True,
    "corpus_unchanged": False,
    "environment_forkable": True,
    "environment_sound": False,
    "goals_solvable": False,
    "user_ceiling": False,
    "trees_rewarded": False,
    "labels_agree": True,
    "rows_sound": True,
    "nothing_leaks": True,
    "calls_unseen": False,
    "labels_balanced": False,
    "no_regression": False,
    "drift": False,
    "lineage_holds": False,
}
"""Each check of the assets here, and whether it blocks. A regression does not: a refusal is a result."""


def test_what_must_never_be_trained_on_blocks_and_the_rest_warns() -> None:
    graph = defs.resolve_asset_graph()
    checks = [graph.get_check_spec(key) for key in graph.asset_check_keys]
    assert {check.name: check.blocking for check in checks} == CHECKS
    assert all(check.description and len(check.description) > 60 for check in checks)
    of_base = {check.name for check in checks if check.asset_key.to_user_string() == "base_evaluation"}
    assert of_base == {"no_regression", "drift"}


def test_the_page_of_every_asset_lists_its_columns_and_links_to_its_code() -> None:
    for name in TABLES:
        metadata = specs()[name].metadata
        listed = [column.name for column in metadata["dagster/column_schema"].columns]
        assert listed == [f"{table}.{one.name}" for table in TABLES[name] for one in columns()[table]]
        (reference,) = metadata["dagster/code_references"].code_references
        assert Path(reference.file_path).parent == Path(josh_pipeline.stages.__file__).parent


def test_a_column_says_from_which_columns_of_other_assets_it_is_made() -> None:
    owner = {table: name for name, tables in TABLES.items() for table in tables}
    known = {f"{table}.{one.name}" for table in owner for one in columns()[table]}
    assert {*ORIGINS, *(source for sources in ORIGINS.values() for source in sources)} <= known
    for stage in STAGES:
        schema = specs()[stage.asset].metadata["dagster/column_schema"].columns
        told = {one.name: str(one.description).partition("made from ")[2] for one in schema}
        assert {name: sources for name, sources in told.items() if sources} == {
            column: " and ".join(f"`{source}` ({owner[source.split('.')[0]]})" for source in sources)
            for column, sources in stage.origins.items()
        }
    # Dagster's own form of it is shown as JSON where it is not Dagster+.
    assert not any("dagster/column_lineage" in spec.metadata for spec in specs().values())


def test_whatever_serves_the_definitions_calls_their_location_as_runs_of_the_command_line_do() -> None:
    root = Path(assets.__file__).parents[1]
    with contextlib.chdir(root):
        served = [*WorkspaceFileTarget(["workspace.yaml"]).create_origins(), *get_origins_from_toml("pyproject.toml")]
    assert {origin.location_name for origin in served} == {LOCATION["location_name"]}


def test_schedules_and_sensor_are_off_until_somebody_switches_them_on() -> None:
    assert [one.name for one in schedules()] == ["weekly_retraining", "weekly_audit"]
    assert {one.default_status for one in schedules()} == {dg.DefaultScheduleStatus.STOPPED}
    assert next_round.default_status == dg.DefaultSensorStatus.STOPPED


def test_nothing_is_warned_of_where_the_definitions_are_loaded() -> None:
    loaded = subprocess.run(
        [sys.executable, "-W", "always", "-c", "import assets.definitions"], capture_output=True, text=True
    )
    assert "assets/" not in loaded.stderr, loaded.stderr


def test_dagster_starts_the_processes_in_whose_place_the_pages_are_put(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dagster._cli.dev, "open_ipc_subprocess", None)
    monkeypatch.setattr(dagster_webserver.app, "DagsterWebserver", None)
    for name in UNKNOWN_NAMES:
        monkeypatch.setattr(dagster._config.validate, name, None)
    put_in_place()
    for name in UNKNOWN_NAMES:
        words = getattr(dagster._config.validate, name)
        assert name in dagster._config.validate._check_for_extra_incoming_fields.__code__.co_names
        assert words.__qualname__ == "suggesting.<locals>.told"
    starts = dagster._cli.dev.dev_command_impl.__code__
    assert "open_ipc_subprocess" in starts.co_names
    assert "dagster_webserver" in str(starts.co_consts)
    builds = dagster_webserver.app.create_app_from_workspace_process_context
    assert "DagsterWebserver" in builds.__code__.co_names
    assert (dagster._cli.dev.open_ipc_subprocess, dagster_webserver.app.DagsterWebserver) == (started, Webserver)


def test_metadata_of_one_name_twice_is_refused_and_hides_nothing() -> None:
    assert together({"drift": 0.5}, {"drift by iteration": "figure"}) == {"drift": 0.5, "drift by iteration": "figure"}
    with pytest.raises(ValueError, match=r"called \['drift'\]"):
        together({"drift": "figure"}, {"generation": 1}, {"drift": 0.5})
