"""Step ``lora_adapter``: the harvested rows become the candidate's adapter."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.ids import content_id, derived_seed
from josh_pipeline.harvest.rows import Row
from josh_pipeline.stages.cold_start import curve_frame, settle
from josh_pipeline.stages.policy import PolicyRow, iterating_policy, policy_digest
from josh_pipeline.stages.preferences import NO_ROWS_ADVICE, require_sound, training_rows
from josh_pipeline.stages.step import Step, one_at_a_time
from josh_pipeline.store.warehouse import Generation

if TYPE_CHECKING:
    from josh_pipeline.training.job import TrainingResult


@dataclass(frozen=True)
class AdapterSummary:
    """What was trained.

    Attributes:
        policy_digest: the candidate: base and adapter.
        parent_digest: the adapter that training went on from, None where it began at the base.
        rows: that were harvested for it.
        left_out: of them, those that KTO had no neighbour of another tree for.
        tokens, seconds: as the training counted them.
        curve: points of the training curve.
    """

    generation: Generation
    policy_digest: str
    adapter_digest: str
    parent_digest: str | None
    method: str
    rows: int
    left_out: int
    tokens: int
    seconds: float
    curve: list[dict[str, Any]]


@one_at_a_time
def train_adapter(step: Step, iteration: str) -> AdapterSummary:
    """Train the candidate of an iteration and put its adapter, with a manifest, into the home.

    Raises:
        UserError: there are no rows, they are of another policy than the iteration has now, training on
            them would be wrong, or the policy's weights are at an endpoint.
    """
    policy = iterating_policy(step, iteration)
    rows, sources = training_rows(step, policy)
    if not policy.base_path:
        raise UserError(
            "The weights of a policy at an endpoint cannot be trained here: "
            "unset policy.endpoint and name the model with policy.model."
        )
    if not rows:
        raise UserError(f"Iteration {iteration} harvested no row to train on. {NO_ROWS_ADVICE}")
    require_sound(step, policy, rows, sources)
    # Imported where it is used: torch and TRL take seconds, and the assets import this module.
    from josh_pipeline.training.run import train

    settings = step.settings.training
    result = train(
        rows,
        step.home.absolute(policy.base_path),
        step.home.absolute(policy.adapter_path) if policy.adapter_path else None,
        step.home.training,
        settings,
        derived_seed("training", step.settings.seed, iteration, policy.attempt),
        step.progress,
        step.settings.policy.quantization,
    )
    left_out = len(rows) - result.rows
    if left_out:
        step.progress.note(f"{left_out} of {len(rows)} rows had no neighbour of another tree: left out.")
    parent = policy.adapter_digest if settings.start == "previous" else None
    manifest = manifest_of(policy, parent, rows, result) | {
        # Commits the adapter to all that its rows came from, down to the corpus: see store/seals.py.
        "rows_generations": [step.warehouse.digest_of(source) for source in sources]
    }
    adapter = settle(result.adapter, step.home.adapters / result.digest, result.adapter.parent)
    # Beside the folder, not in it: the folder's digest covers all that lies in it.
    adapter.with_suffix(".json").write_text(json.dumps(manifest, indent=1, sort_keys=True))
    candidate = policy_digest(policy.base_digest, result.digest)
    row = {
        "policy_digest": candidate,
        "adapter_digest": result.digest,
        "adapter_path": step.home.relative(adapter),
        "base_digest": policy.base_digest,
        "parent_digest": parent,
        "rows_digest": manifest["rows_digest"],
        "method": settings.method,
        "rows": len(rows),
        "tokens": result.tokens,
        "seconds": result.seconds,
        "manifest": json.dumps(manifest),
    }
    tables = {"trainings": pl.DataFrame([row], schema_overrides={"parent_digest": pl.String})}
    if result.curve:
        tables["training_curves"] = curve_frame(result.curve)
    generation = step.warehouse.publish("adapter", iteration, step.run_id, tables, [policy.source, *sources])
    return AdapterSummary(
        generation=generation,
        policy_digest=candidate,
        adapter_digest=result.digest,
        parent_digest=parent,
        method=settings.method,
        rows=len(rows),
        left_out=left_out,
        tokens=result.tokens,
        seconds=result.seconds,
        curve=result.curve,
    )


def manifest_of(
    policy: PolicyRow, parent: str | None, rows: list[Row], result: "TrainingResult"
) -> dict[str, Any]:
    """Describe an adapter by digests, so that a change to it or to what it came from shows."""
    return {
        "adapter_digest": result.digest,
        "base_digest": policy.base_digest,
        "parent_digest": parent,
        "trained_by": policy.policy_digest,
        "iteration": policy.iteration,
        "attempt": policy.attempt,
        "corpus_digest": policy.corpus_digest,
        "rows_digest": content_id(sorted(row.row_id for row in rows)),
        "rows": len(rows),
        "rows_trained": result.rows,
        "rows_per_second": result.rows_per_second,
        "repeated_prefix_share": result.repeated,
        "settings": result.record,
    }
