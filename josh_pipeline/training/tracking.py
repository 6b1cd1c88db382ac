"""Experiment trackers: transformers' own callbacks log the training curve, and scores join the same run later.

A run has a name that another process finds again. Where a tracker keeps its runs, its own environment variables say
(``TRACKIO_SPACE_ID``, ``MLFLOW_TRACKING_URI``, ``WANDB_MODE``, ...).
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from importlib import import_module
from io import StringIO
from typing import Any, Literal

from josh_pipeline.core.errors import UserError

TrackerKind = Literal["trackio", "wandb", "mlflow"]


@dataclass(frozen=True)
class TrackedRun:
    """A run of a tracker.

    Attributes:
        kind: which tracker.
        project: of it, as it calls what holds runs.
        name: unlike that of any other run of the project.
        config: what people look runs up by.
    """

    kind: TrackerKind
    project: str
    name: str
    config: Mapping[str, Any] = field(default_factory=dict)


class Tracker(ABC):
    """What the trackers do differently; ``module`` is the library."""

    def __init__(self, run: TrackedRun) -> None:
        self.run = run
        with redirect_stdout(StringIO()):
            self.module: Any = import_module(run.kind)

    @abstractmethod
    def environment(self) -> Mapping[str, str]:
        """Return what tells transformers' callback which run to open; all else is in its arguments."""

    @abstractmethod
    def open(self) -> None:
        """Open the run, or make it where there is none of its name."""

    @abstractmethod
    def describe(self) -> None:
        """Write the run's config into the open run."""

    @abstractmethod
    def log(self, metrics: Mapping[str, float]) -> None:
        """Write metrics into the open run."""

    @abstractmethod
    def link(self) -> str:
        """Return the address of the open run; where it is on this machine, how to look at it."""

    @abstractmethod
    def close(self) -> None:
        """End the run, if it is open."""


class Trackio(Tracker):
    """Trackio, on this machine or in a Space."""

    def environment(self) -> Mapping[str, str]:
        """Nothing: project and name are arguments of the training."""
        return {}

    def open(self) -> None:
        """Open the run."""
        self.module.init(project=self.run.project, name=self.run.name, resume="allow", embed=False)

    def describe(self) -> None:
        """Write the config, which goes out with the first metrics."""
        self.module.config.update(dict(self.run.config))

    def log(self, metrics: Mapping[str, float]) -> None:
        """Write metrics."""
        self.module.log(dict(metrics))

    def link(self) -> str:
        """Return the Space, or the command that shows the project."""
        space = self.module.context_vars.current_space_id.get()
        return f"https://huggingface.co/spaces/{space}" if space else f"trackio show --project {self.run.project}"

    def close(self) -> None:
        """End the run, unless transformers' callback did."""
        if self.module.context_vars.current_run.get() is not None:
            self.module.finish()


class Wandb(Tracker):
    """Weights & Biases."""

    def environment(self) -> Mapping[str, str]:
        """Return project and id."""
        return {"WANDB_PROJECT": self.run.project, "WANDB_RUN_ID": self.run.name, "WANDB_RESUME": "allow"}

    def open(self) -> None:
        """Open the run."""
        self.module.init(project=self.run.project, id=self.run.name, name=self.run.name, resume="allow")

    def describe(self) -> None:
        """Write the config."""
        self.module.config.update(dict(self.run.config), allow_val_change=True)

    def log(self, metrics: Mapping[str, float]) -> None:
        """Write metrics."""
        self.module.log(dict(metrics))

    def link(self) -> str:
        """Return the run's page, or the folder of an offline run, which ``wandb sync`` takes."""
        return self.module.run.url or f"wandb sync {os.path.dirname(self.module.run.dir)}"  # noqa: PTH120

    def close(self) -> None:
        """End the run."""
        self.module.finish()


class Mlflow(Tracker):
    """MLflow, in a folder or on a server."""

    def environment(self) -> Mapping[str, str]:
        """Return the experiment, and the run where there is one."""
        found = self._found()
        return {"MLFLOW_EXPERIMENT_NAME": self.run.project, **({"MLFLOW_RUN_ID": found} if found else {})}

    def open(self) -> None:
        """Open the run."""
        self.module.set_experiment(self.run.project)
        self.module.start_run(run_id=self._found(), run_name=self.run.name)

    def describe(self) -> None:
        """Write the config as tags, which a run that goes on may write again."""
        self.module.set_tags(dict(self.run.config))

    def log(self, metrics: Mapping[str, float]) -> None:
        """Write metrics."""
        self.module.log_metrics(dict(metrics))

    def link(self) -> str:
        """Return the run's page on a server, or the command that serves it."""
        info, place = self.module.active_run().info, self.module.get_tracking_uri()
        page = f"/#/experiments/{info.experiment_id}/runs/{info.run_id}"
        return place.rstrip("/") + page if place.startswith("http") else f"mlflow ui --backend-store-uri {place}"

    def close(self) -> None:
        """End the run."""
        self.module.end_run()

    def _found(self) -> str | None:
        """Return the id of the newest run of this name."""
        if self.module.get_experiment_by_name(self.run.project) is None:
            return None
        named = f"attributes.run_name = '{self.run.name}'"
        runs = self.module.search_runs(
            experiment_names=[self.run.project], filter_string=named, max_results=1, output_format="list"
        )
        return runs[0].info.run_id if runs else None


TRACKERS: Mapping[TrackerKind, type[Tracker]] = {"trackio": Trackio, "wandb": Wandb, "mlflow": Mlflow}


def tracker_of(run: TrackedRun) -> Tracker:
    """Return the tracker of a run."""
    return TRACKERS[run.kind](run)


def log_scores(run: TrackedRun, metrics: Mapping[str, float]) -> str:
    """Write metrics into a run that was trained in, or into one of their own; returns its link.

    Raises:
        UserError: the tracker failed.
    """
    try:
        with redirect_stdout(StringIO()):
            tracker = tracker_of(run)
            tracker.open()
            try:
                # Again, where a training did: Trackio forgets the config of a run that goes on.
                tracker.describe()
                tracker.log(metrics)
                return tracker.link()
            finally:
                tracker.close()
    except Exception as fault:
        reason = " ".join(f"{type(fault).__name__}: {fault}".split())[:300].rstrip(".")
        raise UserError(
            f"{run.kind} did not take the scores ({reason}): mend that and run again, which plays nothing twice, "
            "or set tracking.kind to none."
        ) from fault


@contextmanager
def told_by_environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
