"""Runs of an experiment tracker: one for what a run of the pipeline trains, which its evaluation joins."""

from collections.abc import Mapping

from josh_pipeline.stages.stage import Step, recorded_run
from josh_pipeline.training.tracking import TrackedRun, log_scores

FACT = "tracker's run"


def tracked_run(step: Step, what: str, run_id: str) -> TrackedRun | None:
    """Return the tracker's run of an iteration or of the cold start; None without a tracker.

    Args:
        what: the iteration, or ``cold-start``.
        run_id: the run that trains it.
    """
    settings = step.settings
    if settings.tracking.kind == "none":
        return None
    config = {
        "dagster_run": run_id,
        "iteration": what,
        "profile": settings.profile,
        "seed": settings.seed,
        "model": settings.policy.model,
        "training": settings.training.model_dump(mode="json"),
        "settings": settings.digest,
    }
    return TrackedRun(settings.tracking.kind, settings.tracking.project, f"{what}-{run_id[:8]}", config)


def track_scores(step: Step, iteration: str, trained: bool, metrics: Mapping[str, float]) -> Mapping[str, str]:
    """Write the scores of an iteration into its tracker's run; returns the run's link as a fact.

    Args:
        trained: the iteration has trained its candidate, and the run is that of the training.

    Raises:
        UserError: the tracker failed.
    """
    run_id = recorded_run(step.warehouse, "adapter", iteration)["run_id"] if trained else step.run_id
    run = tracked_run(step, iteration, run_id)
    return {FACT: log_scores(run, metrics)} if run is not None else {}
