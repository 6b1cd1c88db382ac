"""The one resource: a home and the settings of a run, and how a step reports from inside Dagster."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from assets.launchpad import settings_field
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.locks import at_work
from josh_pipeline.core.progress import Progress, SilentProgress, TaskState, ThrottledProgress
from josh_pipeline.stages import adapter
from josh_pipeline.stages.registry import open_home
from josh_pipeline.stages.stage import Step, start_step

OBSERVATION_SECONDS = 60.0
"""Progress reaches the event log once a minute at most: each observation is stored for good."""


@dataclass(frozen=True)
class Josh:
    """A home and the settings of a run. The home is ``$JOSH_HOME``, else ``./.josh``.

    Attributes:
        profile: as the launchpad's field of that name.
        settings: nested mapping laid over the profile's.
        terminal: where steps report beside Dagster.
    """

    profile: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    terminal: Progress = field(default_factory=SilentProgress)

    @contextmanager
    def step(self, context: dg.AssetExecutionContext) -> Iterator[Step]:
        """Open the home for one step; a user's mistake fails the step with its one sentence."""
        with mistakes_told():
            progress = Tee(self.terminal, observing(context))
            home = open_home()
            settings = home.settings(
                self.profile, dict(self.settings), {(): "the launchpad"} if self.settings else None
            )
            # Before the rollouts of the same run, not after them.
            trained = dg.AssetKey(adapter.STAGE.asset) in context.job_def.asset_layer.selected_asset_keys
            if trained and settings.policy.endpoint is not None:
                raise UserError(adapter.WEIGHTS_ELSEWHERE)
            with at_work(home.root):
                yield start_step(home, settings, context.run.run_id, progress)


JoshResource = dg.ResourceParam[Josh]
"""The annotation by which an asset asks for the home."""


def josh_resource(terminal: Progress | None = None) -> dg.ResourceDefinition:
    """Return the resource ``josh``, with every setting in the launchpad.

    Args:
        terminal: where the steps of runs in this process report too.

    It is no ``ConfigurableResource``: those cannot tell a setting that is left out from one set to null.
    """

    def made(context: dg.InitResourceContext) -> Josh:
        return Josh(**context.resource_config, terminal=terminal or SilentProgress())

    profile = dg.Field(
        str,
        is_required=False,
        description="A shipped profile (quickstart, ...), the path of a YAML file, or the digest of settings "
        "that this home has kept; settings are laid over it, so delete those that are to come from it. Left out: the "
        "settings of the last run in this home, else quickstart.",
    )
    return dg.ResourceDefinition(
        made,
        config_schema={"profile": profile, "settings": settings_field()},
        description="The home, and the settings of a run.",
    )


@contextmanager
def mistakes_told() -> Iterator[None]:
    """Turn a user's mistake into a failure that Dagster shows with its sentence, and never retries."""
    try:
        yield
    except UserError as fault:
        raise dg.Failure(description=str(fault), allow_retries=False) from fault


def observing(context: dg.AssetExecutionContext) -> Progress:
    """Return what reports to Dagster, as observations and log lines."""

    def observe(snapshot: TaskState) -> None:
        metadata: dict[str, Any] = {"task": snapshot.task, "done": snapshot.done}
        if snapshot.total is not None:
            metadata["total"] = snapshot.total
        metadata["seconds"] = round(snapshot.seconds, 1)
        if snapshot.seconds_left is not None and not snapshot.finished:
            metadata["seconds left"] = round(snapshot.seconds_left, 1)
        partition = context.partition_key if context.has_partition_key else None
        context.log_event(
            dg.AssetObservation(
                asset_key=context.asset_key,
                partition=partition,
                description=f"{snapshot.task}: {snapshot.done} of {snapshot.total or '?'}",
                metadata=metadata,
            )
        )

    return ThrottledProgress(observe, context.log.info, interval=OBSERVATION_SECONDS)


class Tee:
    """Tells two places at once."""

    def __init__(self, *places: Progress) -> None:
        self._places = places

    def start(self, task: str, total: int | None) -> None:
        """Begin a task in all places."""
        for place in self._places:
            place.start(task, total)

    def advance(self, task: str, steps: int = 1) -> None:
        """Count steps in all places."""
        for place in self._places:
            place.advance(task, steps)

    def finish(self, task: str) -> None:
        """End a task in all places."""
        for place in self._places:
            place.finish(task)

    def note(self, text: str) -> None:
        """Say a line in all places."""
        for place in self._places:
            place.note(text)
