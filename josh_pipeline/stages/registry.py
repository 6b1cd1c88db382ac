"""All stages, in the order of the data flow, and what is derived from them."""

from collections.abc import Sequence
from pathlib import Path

from josh_pipeline.settings import Settings
from josh_pipeline.stages import (
    adapter,
    benchmark,
    cold_start,
    environment,
    evaluation,
    goals,
    labels,
    policy,
    preferences,
    promotion,
    rollouts,
)
from josh_pipeline.stages.stage import Stage, Step
from josh_pipeline.store.home import Home, home_at, known_home
from josh_pipeline.store.layout import Layout

STAGES: tuple[Stage, ...] = (
    environment.STAGE,
    goals.STAGE,
    cold_start.STAGE,
    policy.STAGE,
    rollouts.STAGE,
    labels.STAGE,
    preferences.STAGE,
    adapter.STAGE,
    evaluation.STAGE,
    promotion.STAGE,
    benchmark.STAGE,
)
BY_NAME = {stage.name: stage for stage in STAGES}
PREPARATION = tuple(stage for stage in STAGES if not stage.of_iterations)
"""Once an environment and model."""
LOOP = tuple(stage for stage in STAGES if stage.of_iterations and stage.in_loop)
"""In each iteration."""
BASELINE_LOOP = tuple(stage for stage in LOOP if stage.in_baseline)
"""In an iteration that only evaluates a base."""
LAYOUT = Layout(STAGES)


def open_home(path: str | Path | None = None) -> Home:
    """Return a home, making its folder where there is none; see ``home_at``."""
    return home_at(path, LAYOUT)


def read_home(path: str | Path | None = None) -> Home:
    """Return a home that is there, for what only reads; see ``known_home``."""
    return known_home(path, LAYOUT)


def missing_preparation(step: Step) -> list[Stage]:
    """Return the stages to be made before iterations of the settings of a step, in order.

    Where the environment's code has changed since, what was read of it and its tasks are made again.
    """
    changed = {environment.STAGE.name, goals.STAGE.name} if environment.changed(step) else set()
    return [
        stage
        for stage in PREPARATION
        if stage.scope_of is not None
        and (stage.name in changed or step.warehouse.current(stage.name, stage.scope_of(step.settings)) is None)
    ]


def preparing(settings: Settings, missing: Sequence[Stage]) -> str:
    """Say what is made before anything is played, and what of it takes long."""
    made = ", ".join(stage.asset for stage in missing)
    said = f"Preparing {settings.environment.shown} and {settings.policy.model!r}, once in this home: {made}"
    taught = settings.cold_start.conversations if settings.policy.endpoint is None else 0
    if taught and cold_start.STAGE in missing:
        said += f" (the model is trained on {taught} scripted conversations, which takes minutes)"
    return said


def prepare(step: Step) -> None:
    """Write what the settings need and the store lacks, and say so."""
    missing = missing_preparation(step)
    if missing:
        step.progress.note(preparing(step.settings, missing))
    for stage in missing:
        stage.run(step, None)
