"""Runs jobs in this process on the persistent Dagster instance of a home, so that the UI shows them."""

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import yaml
from dagster import DagsterInstance
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.errors import DagsterAssetCheckFailedError, DagsterExecutionInterruptedError
from dagster._core.execution.api import execute_run
from dagster._core.nux import set_nux_seen
from dagster._core.remote_origin import RemoteRepositoryOrigin
from dagster._core.workspace.load_target import ModuleTarget

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.progress import Progress
from josh_pipeline.store.home import Home

INSTANCE = {
    "telemetry": {"enabled": False},
    # Runs, not steps: the daemon starts no run of the loop while another one is under way.
    "concurrency": {"pools": {"granularity": "run", "default_limit": 1}},
}
QUIET = {
    # Capturing output would start helper processes and take the terminal from the progress bars.
    "compute_logs": {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
}

LOCATION = {"module_name": "assets.definitions", "location_name": "josh"}
"""What ``josh ui`` serves. Runs of this process say that they are of it, so that the UI lists them under
their jobs and can start them again; whatever else serves the home has to call the location the same."""


def prepare_instance(home: Home) -> Path:
    """Write Dagster's configuration into the home, and point this process and its children at it.

    Returns:
        The workspace to be served.
    """
    workspace = home.dagster / "workspace.yaml"
    files = {
        "dagster.yaml": INSTANCE,
        "quiet.yaml": INSTANCE | QUIET,
        workspace.name: {"load_from": [{"python_module": LOCATION}]},
    }
    for name, values in files.items():
        (home.dagster / name).write_text(yaml.safe_dump(values))
    os.environ["DAGSTER_HOME"] = str(home.dagster)
    os.environ["JOSH_HOME"] = str(home.root)
    # Else an invitation to a newsletter lies over every page of the UI until somebody closes it.
    set_nux_seen()  # type: ignore[no-untyped-call]
    return workspace


@contextmanager
def instance_of(home: Home) -> Iterator[DagsterInstance]:
    """Open the home's instance for runs in this process."""
    prepare_instance(home)
    with DagsterInstance.from_config(str(home.dagster), "quiet.yaml") as instance:
        yield instance


def run_job(
    instance: DagsterInstance,
    name: str,
    settings_digest: str,
    partition: str | None = None,
    assets: list[str] | None = None,
    terminal: Progress | None = None,
) -> None:
    """Run a job, or some of its assets, to the end.

    Args:
        settings_digest: of settings that the home has kept.
        partition: the iteration, for the partitioned jobs; added where it is new.
        assets: names; None for all of the job.
        terminal: where its steps report beside Dagster.

    Raises:
        UserError: a step failed with a user's mistake, or a blocking check did; the sentence is theirs.
        KeyboardInterrupt: somebody stopped it; what was checkpointed stays.
    """
    with warnings.catch_warnings():
        # Partitioned checks are in preview; the release is pinned in pyproject.toml for that reason.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        warnings.simplefilter("ignore", dg.BetaWarning)
        from assets.definitions import definitions

        repository = definitions(terminal).get_repository_def()
        job = repository.get_job(name)
        selection = {dg.AssetKey(asset) for asset in assets} if assets else None
        place: Mapping[str, str] = {}
        if partition is not None:
            assert isinstance(job.partitions_def, dg.DynamicPartitionsDefinition), f"{name} has no partitions"
            instance.add_dynamic_partitions(str(job.partitions_def.name), [partition])
            place = job.get_tags_for_partition_key(partition, selection)
        (location,) = ModuleTarget(**LOCATION, attribute=None, working_directory=None).create_origins()
        run = instance.create_run_for_job(
            job,
            run_config={
                "resources": {"josh": {"config": {"profile": settings_digest}}},
                # Everything is in the event log; the terminal belongs to the progress bars.
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            tags={**job.run_tags, **place, "josh/settings": settings_digest},
            asset_selection=selection,
            remote_job_origin=RemoteRepositoryOrigin(location, repository.name).get_job_origin(name),
        )
        try:
            execute_run(InMemoryJob(job), run, instance, raise_on_error=True)
        except dg.Failure as fault:
            raise UserError(str(fault.description)) from None
        except DagsterExecutionInterruptedError:
            raise KeyboardInterrupt from None
        except DagsterAssetCheckFailedError:
            raise UserError(failed_checks(instance, run.run_id)) from None


def failed_checks(instance: DagsterInstance, run_id: str) -> str:
    """Say which blocking checks of a run failed, and why."""
    entries = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    checks = [entry.get_dagster_event().asset_check_evaluation_data for entry in entries]
    return " ".join(
        f"Check {check.check_name} failed: {check.description}"
        for check in checks
        if not check.passed and check.blocking
    )
