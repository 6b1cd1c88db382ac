"""Stage ``cold_start``: from the model as published to the base that iterations go on from."""

import asyncio
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from josh_pipeline.core.content import content_id, derived_seed
from josh_pipeline.core.environment import Carelessness
from josh_pipeline.core.errors import UserError
from josh_pipeline.dialogue.demonstrations import Demonstration, demonstrate
from josh_pipeline.policies.models import foundation, model_digest
from josh_pipeline.search.selection import demonstration_goals
from josh_pipeline.stages.environment import stored_environment, stored_tasks
from josh_pipeline.stages.runnable import require_runnable
from josh_pipeline.stages.stage import Made, Stage, Step, base_scope, corpus_scope, facts_of, goals_scope
from josh_pipeline.stages.tracking import FACT, tracked_run

if TYPE_CHECKING:
    from josh_pipeline.training.job import TrainingResult


def make_base(step: Step, scope: str) -> Made:
    """Fetch the foundation, and teach it the format with scripted conversations where the settings ask.

    Raises:
        UserError: there is no such model, or the goals are not in the store.
    """
    settings = step.settings
    require_runnable(settings)
    demonstrations: list[Demonstration] = []
    result: TrainingResult | None = None
    inputs = []
    record: dict[str, Any] = {}
    row = _foundation_row(step)
    if settings.taught:
        # Imported where they are used: torch and TRL take seconds, and the assets import this module.
        from josh_pipeline.policies.weights import made_of, merge
        from josh_pipeline.training.run import train_cold_start

        inputs = [step.require("goals", goals_scope(settings))]
        demonstrations = scripted(step, inputs[0].scope)
        published = step.home.absolute(row["foundation_path"])
        seed = derived_seed("cold_start", settings.seed)
        result = train_cold_start(
            demonstrations,
            published,
            step.home.training,
            settings.cold_start,
            seed,
            step.progress,
            settings.training,
            tracked_run(step, "cold-start", step.run_id),
        )
        adapter = settle(result.adapter, step.home.adapters / result.digest, result.adapter.parent)
        digest = made_of("base", row["foundation_digest"], result.digest)
        base = merge(published, adapter, step.home.models / f"base-{digest}")
        row |= {
            "base_digest": digest,
            "adapter_digest": result.digest,
            "adapter_path": step.home.relative(adapter),
            "base_path": step.home.relative(base),
        }
        record = result.record | {"base_files": model_digest(base)}
    row |= {
        "demonstrations": len(demonstrations),
        "tokens": result.tokens if result else 0,
        "seconds": result.seconds if result else 0.0,
        "record": json.dumps(record),
    }
    tables = {
        "base_models": [row],
        "demonstrations": [
            {
                "position": position,
                "goal_id": one.goal_id,
                "source_id": one.source_id,
                "messages": json.dumps([asdict(message) for message in one.conversation]),
                "reward": one.reward,
            }
            for position, one in enumerate(demonstrations)
        ],
        "cold_start_curves": curve_records(result.curve) if result else [],
    }
    generation = step.warehouse.publish("cold_start", scope, step.run_id, tables, inputs)
    rewards = [one.reward for one in demonstrations]
    return Made(
        generation,
        version=row["base_digest"],
        rows=len(demonstrations),
        facts=facts_of(row, "model", "base_digest", "demonstrations", "tokens")
        | {
            "demonstrations with full reward": sum(reward == 1.0 for reward in rewards),
            "mean reward of the demonstrations": round(sum(rewards) / len(rewards), 3) if rewards else 0.0,
            "seconds": round(row["seconds"]),
        }
        | ({FACT: result.link} if result and result.link else {}),
    )


def base_files_digest(base: Mapping[str, Any]) -> str | None:
    """Return the digest of the files that a base is served from; None where an earlier release kept none.

    Args:
        base: a row of ``base_models``.
    """
    if base["adapter_digest"] is None:
        return str(base["foundation_digest"])
    kept: str | None = json.loads(base["record"]).get("base_files")
    return kept


def settle(made: Path, place: Path, partial: Path) -> Path:
    """Move a finished adapter to the folder that its digest names, and remove what is left of its making."""
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        made.rename(place)
    shutil.rmtree(partial, ignore_errors=True)
    return place


def scripted(step: Step, scope: str) -> list[Demonstration]:
    """Let the script play training goals of the kind that is searched first.

    Raises:
        UserError: the environment has no script.
    """
    settings = step.settings
    start = settings.cold_start
    environment = stored_environment(step.warehouse, settings.environment, corpus_scope(settings), sources=False)
    known = stored_tasks(step.warehouse, scope, of=environment.Task, kind=environment.searched(1), role="train")
    goals = demonstration_goals(known, start.conversations)
    if len(goals) < start.conversations:
        step.progress.note(f"Only {len(goals)} training goals for demonstrations.")
    careless = Carelessness(
        claimed=start.claimed_bookings, dropped=start.dropped_constraints, denied=start.false_no_match
    )
    seed = derived_seed("demonstrations", settings.seed)
    written = asyncio.run(demonstrate(environment, goals, careless, seed, settings.user.max_turns))
    if not written:
        raise UserError(
            f"{settings.environment.shown} has no scripted agent that could demonstrate: "
            "set cold_start.conversations to 0."
        )
    return written


def _foundation_row(step: Step) -> dict[str, Any]:
    """Fetch the model as published; return its row of ``base_models``, as what no cold start has taught."""
    policy = step.settings.policy
    if policy.endpoint is not None:
        digest, path = content_id("endpoint", policy.endpoint.rstrip("/"), policy.model), ""
    else:
        step.progress.note(f"Model: {policy.model}")
        published = foundation(policy.model, step.home.models, native=policy.agent == "function_calling")
        digest, path = model_digest(published), step.home.relative(published)
    return {
        "base_digest": digest,
        "model": policy.model if policy.endpoint is None else f"{policy.model} at {policy.endpoint}",
        "foundation_digest": digest,
        "foundation_path": path,
        "adapter_digest": None,
        "adapter_path": None,
        "base_path": path,
    }


def curve_records(curve: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the points of a training curve as rows; a point without ``step`` is numbered."""
    return [
        {"step": int(point.get("step", number)), "point": json.dumps(point)}
        for number, point in enumerate(curve, start=1)
    ]


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
    scope="scope",
    scope_of=base_scope,
    sample="SELECT source_id AS source, reward, messages FROM current_demonstrations WHERE scope = ? ORDER BY position",
    origins={
        "demonstrations.goal_id": ["goals.goal_id"],
        "demonstrations.source_id": ["goals.source_id"],
        "demonstrations.messages": ["goals.task"],
    },
    kinds=frozenset({"huggingface", "duckdb"}),
)
