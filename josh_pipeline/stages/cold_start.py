"""Step ``cold_start``: from the model as published to the base that iterations go on from."""

import asyncio
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.ids import content_id, derived_seed
from josh_pipeline.environments.toolwoz.demonstrations import Demonstration, demonstrate
from josh_pipeline.environments.toolwoz.world import worlds
from josh_pipeline.policies.models import foundation, model_digest
from josh_pipeline.stages.corpus import stored_corpus
from josh_pipeline.stages.goals import played_kind
from josh_pipeline.stages.scopes import base_scope, corpus_scope, goals_scope
from josh_pipeline.stages.selection import demonstration_goals
from josh_pipeline.stages.step import Step
from josh_pipeline.store.warehouse import Generation

if TYPE_CHECKING:
    from josh_pipeline.training.job import TrainingResult


@dataclass(frozen=True)
class BaseSummary:
    """The base, and how it came to be.

    Attributes:
        mean_reward: of the demonstrations; 0.0 where there are none.
        full_reward: demonstrations with reward 1.
        curve: points of the training curve.
    """

    generation: Generation
    base_digest: str
    model: str
    demonstrations: int
    full_reward: int
    mean_reward: float
    tokens: int
    seconds: float
    curve: list[dict[str, Any]]


def make_base(step: Step) -> BaseSummary:
    """Fetch the foundation, and teach it the format with scripted conversations where the settings ask.

    Raises:
        UserError: there is no such model, or the goals are not in the store.
    """
    settings = step.settings
    if settings.policy.endpoint is not None:
        return _published(step, _endpoint_row(step), [], None, [])
    if settings.cold_start.conversations and settings.policy.agent != "compact":
        raise UserError(
            f"Demonstrations are written in the compact format, not in {settings.policy.agent}: "
            "set cold_start.conversations to 0, or policy.agent to compact."
        )
    if settings.cold_start.conversations and settings.policy.results != "compact":
        raise UserError(
            "Demonstrations show results in the compact form, not whole: "
            "set cold_start.conversations to 0, or policy.results to compact."
        )
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
        return _published(step, row, [], None, [])
    # Imported where they are used: torch and TRL take seconds, and the assets import this module.
    from josh_pipeline.policies.merge import merge
    from josh_pipeline.training.run import train_cold_start

    goals_source = step.require("goals", goals_scope(settings), "toolwoz_goals")
    demonstrations = _demonstrations(step, goals_source.scope)
    seed = derived_seed("cold_start", settings.seed)
    result = train_cold_start(
        demonstrations,
        published,
        step.home.training,
        settings.cold_start,
        seed,
        step.progress,
        settings.training,
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
    return _published(step, row, demonstrations, result, [goals_source])


def settle(made: Path, place: Path, partial: Path) -> Path:
    """Move a finished adapter to the folder that its digest names, and remove what is left of its making."""
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        made.rename(place)
    shutil.rmtree(partial, ignore_errors=True)
    return place


def _demonstrations(step: Step, scope: str) -> list[Demonstration]:
    settings = step.settings
    corpus = stored_corpus(step.warehouse, corpus_scope(settings.corpus), dialogues=False)
    goals = demonstration_goals(step.warehouse, scope, played_kind(step), settings.cold_start.conversations)
    if len(goals) < settings.cold_start.conversations:
        step.progress.note(f"Only {len(goals)} training goals for demonstrations.")
    seed = derived_seed("demonstrations", settings.seed)
    world_of = worlds(corpus, settings.goals.semantics)
    return asyncio.run(demonstrate(goals, world_of, settings.cold_start, seed, settings.user.max_turns))


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
    row: dict[str, Any],
    demonstrations: list[Demonstration],
    result: "TrainingResult | None",
    inputs: list[Generation],
) -> BaseSummary:
    row = row | {
        "demonstrations": len(demonstrations),
        "tokens": result.tokens if result else 0,
        "seconds": result.seconds if result else 0.0,
        "record": json.dumps(result.record if result else {}),
    }
    curve = result.curve if result else []
    strings = {"adapter_digest": pl.String, "adapter_path": pl.String}
    tables = {"base_models": pl.DataFrame([row], schema_overrides=strings)}
    if demonstrations:
        tables["demonstrations"] = pl.DataFrame(
            [
                {
                    "position": position,
                    "goal_id": one.goal_id,
                    "dialogue_id": one.dialogue_id,
                    "messages": json.dumps([asdict(message) for message in one.conversation]),
                    "reward": one.reward,
                }
                for position, one in enumerate(demonstrations)
            ]
        )
    if curve:
        tables["cold_start_curves"] = curve_frame(curve)
    generation = step.warehouse.publish(
        "cold_start", base_scope(step.settings), step.run_id, tables, inputs=inputs
    )
    rewards = [one.reward for one in demonstrations]
    return BaseSummary(
        generation=generation,
        base_digest=row["base_digest"],
        model=row["model"],
        demonstrations=len(demonstrations),
        full_reward=sum(reward == 1.0 for reward in rewards),
        mean_reward=sum(rewards) / len(rewards) if rewards else 0.0,
        tokens=row["tokens"],
        seconds=row["seconds"],
        curve=curve,
    )


def curve_frame(curve: list[dict[str, Any]]) -> pl.DataFrame:
    """Return the points of a training curve as rows; a point without ``step`` is numbered."""
    return pl.DataFrame(
        [
            {"step": int(point.get("step", number)), "point": json.dumps(point)}
            for number, point in enumerate(curve, start=1)
        ]
    )
