"""The Dagster layer as loaded: the graph, what is on by default, schedule and sensor."""

from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context

from assets.automation import MOST_ITERATIONS, next_round, weekly_retraining
from assets.definitions import defs
from assets.launch import INSTANCE
from assets.partitions import ITERATIONS, LOOP_POOL

LOOP = {
    "policy": {"toolwoz_goals", "cold_start"},
    "beam_rollouts": {"policy"},
    "reward_labels": {"beam_rollouts"},
    "preference_pairs": {"reward_labels"},
    "lora_adapter": {"preference_pairs"},
    "benchmark_evaluation": {"policy", "lora_adapter"},
    "promotion": {"benchmark_evaluation"},
    "toolwoz_benchmark": {"promotion"},
}
CORPUS = {
    "multiwoz_dialogues": set(),
    "toolwoz_goals": {"multiwoz_dialogues"},
    "cold_start": {"toolwoz_goals"},
}


def specs() -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}


def test_the_graph_is_the_chain_of_the_design() -> None:
    graph = {name: {dep.asset_key.to_user_string() for dep in spec.deps} for name, spec in specs().items()}
    assert graph == CORPUS | LOOP


def test_assets_are_grouped_described_and_owned() -> None:
    for name, spec in specs().items():
        assert spec.group_name == ("corpus" if name in CORPUS else "iteration")
        assert spec.description and len(spec.description) > 80, name
        assert spec.owners and spec.kinds


def test_everything_in_the_loop_is_partitioned_by_iteration_and_runs_one_at_a_time() -> None:
    for name, spec in specs().items():
        assert (spec.partitions_def == ITERATIONS) == (name in LOOP)
    graph = defs.resolve_asset_graph()
    assert all(graph.get(dg.AssetKey(name)).pools == {LOOP_POOL} for name in LOOP)
    assert INSTANCE["concurrency"]["pools"] == {"granularity": "run", "default_limit": 1}


def test_disagreeing_labels_and_unsound_rows_block_but_a_regression_does_not() -> None:
    graph = defs.resolve_asset_graph()
    blocking = {key.name: graph.get_check_spec(key).blocking for key in graph.asset_check_keys}
    assert blocking == {"labels_agree": True, "rows_sound": True, "no_regression": False}


def test_schedule_and_sensor_are_off_until_somebody_switches_them_on() -> None:
    assert weekly_retraining.default_status == dg.DefaultScheduleStatus.STOPPED
    assert next_round.default_status == dg.DefaultSensorStatus.STOPPED


def test_the_schedule_asks_for_the_newest_iteration_once_there_is_one() -> None:
    with dg.instance_for_test() as instance:
        monday = datetime(2026, 11, 23, 3, tzinfo=UTC)
        context = dg.build_schedule_context(instance, scheduled_execution_time=monday)
        assert isinstance(weekly_retraining(context), dg.SkipReason)
        instance.add_dynamic_partitions("iteration", ["000", "002", "001"])
        request = weekly_retraining(context)
    assert isinstance(request, dg.RunRequest)
    assert (request.partition_key, request.run_key) == ("002", "weekly-002-2026-11-23")


@pytest.mark.parametrize(
    ("promoted", "following", "asked"),
    [
        (True, "002", "002"),
        (False, "none: not promoted", None),
        (True, f"{MOST_ITERATIONS + 1:03d}", None),
    ],
)
def test_the_sensor_goes_on_after_a_promotion_up_to_its_cap(
    promoted: bool, following: str, asked: str | None
) -> None:
    @dg.asset(name="promotion", partitions_def=ITERATIONS)
    def reported() -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata={"promoted": promoted, "next iteration": following})

    with dg.instance_for_test() as instance, partition_loading_context(dynamic_partitions_store=instance):
        instance.add_dynamic_partitions("iteration", ["001", following])
        dg.materialize([reported], instance=instance, partition_key="001")
        context = dg.build_sensor_context(instance, repository_def=defs.get_repository_def())
        data = next_round.evaluate_tick(context)
    assert [request.partition_key for request in data.run_requests or []] == ([asked] if asked else [])
    assert bool(data.skip_message) == (asked is None)


def test_the_library_imports_no_dagster() -> None:
    folder = Path(__file__).parent.parent / "josh_pipeline"
    found = [
        path.name
        for path in folder.rglob("*.py")
        if any(line.startswith(("import dagster", "from dagster")) for line in path.read_text().splitlines())
    ]
    assert found == []
