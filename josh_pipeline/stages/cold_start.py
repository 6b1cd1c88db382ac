"""Stage ``cold_start``: from the model as published to the base that iterations go on from."""

import asyncio
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from josh_pipeline.core.content import content_id, derived_seed
from josh_pipeline.core.environment import Carelessness
from josh_pipeline.core.errors import UserError
from josh_pipeline.dialogue.demonstrations import Demonstration, demonstrate
from josh_pipeline.policies.models import foundation, model_digest
from josh_pipeline.search.selection import demonstration_goals
from josh_pipeline.stages.environment import stored_environment
from josh_pipeline.stages.goals import played_goals
from josh_pipeline.stages.policy import coming_iteration
from josh_pipeline.stages.stage import Made, Stage, Step, base_scope, corpus_scope, goals_scope
from josh_pipeline.store.warehouse import Generation

if TYPE_CHECKING:
    from josh_pipeline.training.job import TrainingResult


def make_base(step: Step, scope: str) -> Made:
    """Fetch the foundation, and teach it the format with scripted conversations where the settings ask.

    Raises:
        UserError: there is no such model, or the goals are not in the store.
    """
    settings = step.settings
    if settings.policy.endpoint is not None:
        return _published(step, scope, _endpoint_row(step), [], None, [])
    step.progress.note(f"Model: {settings.policy.model}")
    published = foundation(settings.policy.model, step.home.models)
    digest = model_digest(published)
    row: dict[str, Any] = {
        "base_digest": digest,
        "model": settings.policy.model,
        "foundation_digest": digest,
        "foundation_path": step.home.relative(published),
        "adapter_digest": None,
        "adapter_path": None,
        "base_path": step.home.relative(published),
    }
    if not settings.cold_start.conversations:
        return _published(step, scope, row, [], None, [])
    # Imported where they are used: torch and TRL take seconds, and the assets import this module.
    from josh_pipeline.policies.weights import merge
    from josh_pipeline.training.run import train_cold_start

    goals_source = step.require("goals", goals_scope(settings))
    demonstrations = _demonstrations(step, goals_source.scope)
    seed = derived_seed("cold_start", settings.seed)
    result = train_cold_start(
        demonstrations, published, step.home.training, settings.cold_start, seed, step.progress, settings.training
    )
    adapter = settle(result.adapter, step.home.adapters / result.digest, result.adapter.parent)
    base_digest = content_id("base", digest, result.digest)
    base = merge(published, adapter, step.home.models / f"base-{base_digest}")
    row |= {
        "base_digest": base_digest,
        "adapter_digest": result.digest,
        "adapter_path": step.home.relative(adapter),
        "base_path": step.home.relative(base),
    }
    return _published(step, scope, row, demonstrations, result, [goals_source])


def settle(made: Path, place: Path, partial: Path) -> Path:
    """Move a finished adapter to the folder that its digest names, and remove what is left of its making."""
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        made.rename(place)
    shutil.rmtree(partial, ignore_errors=True)
    return place


def _demonstrations(step: Step, scope: str) -> list[Demonstration]:
    settings = step.settings
    start = settings.cold_start
    environment = stored_environment(step.warehouse, settings.environment, corpus_scope(settings), sources=False)
    goals = demonstration_goals(played_goals(step.warehouse, scope, environment, "train"), start.conversations)
    if len(goals) < start.conversations:
        step.progress.note(f"Only {len(goals)} training goals for demonstrations.")
    careless = Carelessness(
        claimed=start.claimed_bookings, dropped=start.dropped_constraints, denied=start.false_no_match
    )
    seed = derived_seed("demonstrations", settings.seed)
    written = asyncio.run(demonstrate(environment, goals, careless, seed, settings.user.max_turns))
    if not written:
        raise UserError(
            f"{settings.environment.name} has no scripted agent that could demonstrate: "
            "set cold_start.conversations to 0."
        )
    return written


def _endpoint_row(step: Step) -> dict[str, Any]:
    policy = step.settings.policy
    assert policy.endpoint is not None
    digest = content_id("endpoint", policy.endpoint.rstrip("/"), policy.model)
    return {
        "base_digest": digest,
        "model": f"{policy.model} at {policy.endpoint}",
        "foundation_digest": digest,
        "foundation_path": "",
        "adapter_digest": None,
        "adapter_path": None,
        "base_path": "",
    }


def _published(
    step: Step,
    scope: str,
    row: dict[str, Any],
    demonstrations: list[Demonstration],
    result: "TrainingResult | None",
    inputs: list[Generation],
) -> Made:
    row = row | {
        "demonstrations": len(demonstrations),
        "tokens": result.tokens if result else 0,
        "seconds": result.seconds if result else 0.0,
        "record": json.dumps(result.record if result else {}),
    }
    strings = {"adapter_digest": pl.String, "adapter_path": pl.String}
    tables = {"base_models": pl.DataFrame([row], schema_overrides=strings)}
    if demonstrations:
        tables["demonstrations"] = pl.DataFrame(
            [
                {
                    "position": position,
                    "goal_id": one.goal_id,
                    "source_id": one.source_id,
                    "messages": json.dumps([asdict(message) for message in one.conversation]),
                    "reward": one.reward,
                }
                for position, one in enumerate(demonstrations)
            ]
        )
    if result is not None and result.curve:
        tables["cold_start_curves"] = curve_frame(result.curve)
    generation = step.warehouse.publish("cold_start", scope, step.run_id, tables, inputs)
    step.home.remember_settings(step.settings)
    coming, _ = coming_iteration(step)
    rewards = [one.reward for one in demonstrations]
    return Made(
        generation,
        version=row["base_digest"],
        rows=len(demonstrations),
        facts={
            "model": row["model"],
            "base digest": row["base_digest"],
            "demonstrations": len(demonstrations),
            "demonstrations with full reward": sum(reward == 1.0 for reward in rewards),
            "mean reward of the demonstrations": round(sum(rewards) / len(rewards), 3) if rewards else 0.0,
            "next iteration": coming,
            "tokens": row["tokens"],
            "seconds": round(row["seconds"]),
        },
        opens=coming,
    )


def curve_frame(curve: list[dict[str, Any]]) -> pl.DataFrame:
    """Return the points of a training curve as rows; a point without ``step`` is numbered."""
    return pl.DataFrame(
        [
            {"step": int(point.get("step", number)), "point": json.dumps(point)}
            for number, point in enumerate(curve, start=1)
        ]
    )


STAGE = Stage(
    name="cold_start",
    asset="cold_start",
    about="The base model: the model as published, taught the agent's format by scripted conversations on "
    "training goals where the settings ask for it. The script is sloppy on purpose (it claims bookings, drops "
    "constraints, denies results): that leaves errors which the reward can filter, and it means that a part "
    "of what iterations mend was put in.",
    tables={"demonstrations": ("position",), "base_models": ("base_digest",), "cold_start_curves": ("step",)},
    inputs=("goals",),
    make=make_base,
    scope_of=base_scope,
    sample="SELECT source_id AS source, reward, messages FROM current_demonstrations WHERE scope = ? ORDER BY position",
    origins={
        "demonstrations.goal_id": ["goals.goal_id"],
        "demonstrations.source_id": ["goals.source_id"],
        "demonstrations.messages": ["goals.task"],
    },
    kinds=frozenset({"huggingface", "duckdb"}),
)
