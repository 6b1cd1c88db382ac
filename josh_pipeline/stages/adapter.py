"""Stage ``adapter``: the harvested rows become the candidate's adapter."""

import json
from typing import TYPE_CHECKING, Any

from josh_pipeline.core.content import content_id, derived_seed
from josh_pipeline.core.errors import UserError
from josh_pipeline.harvest.rows import Row
from josh_pipeline.policies.weights import policy_digest
from josh_pipeline.stages.cold_start import curve_records, settle
from josh_pipeline.stages.playing import weights
from josh_pipeline.stages.policy import PolicyRow, iterating_policy
from josh_pipeline.stages.preferences import no_rows_advice, require_sound, training_rows
from josh_pipeline.stages.stage import Made, Stage, Step, facts_of
from josh_pipeline.stages.tracking import FACT, tracked_run
from josh_pipeline.stages.unused import unused_facts

if TYPE_CHECKING:
    from josh_pipeline.training.job import TrainingResult


WEIGHTS_ELSEWHERE = (
    "The weights of a policy at an endpoint cannot be trained here: materialize policy to preference_pairs alone, "
    "or unset policy.endpoint and name the model with policy.model."
)


def train_adapter(step: Step, iteration: str) -> Made:
    """Train the candidate of an iteration and put its adapter, with a manifest, into the home.

    Raises:
        UserError: there are no rows, they are of another policy than the iteration has now, training on
            them would be wrong, or the policy's weights are at an endpoint.
    """
    policy = iterating_policy(step, iteration)
    rows, sources = training_rows(step, policy)
    files = weights(step.home, policy)
    if files is None:
        raise UserError(WEIGHTS_ELSEWHERE)
    if not rows:
        raise UserError(f"Iteration {iteration} harvested no row to train on. {no_rows_advice(step.settings)}")
    require_sound(step, policy, rows, sources)
    # Imported where it is used: torch and TRL take seconds, and the assets import this module.
    from josh_pipeline.training.run import train

    settings = step.settings.training
    files.require_unaltered()
    result = train(
        rows,
        files.base,
        files.adapter,
        step.home.training,
        settings,
        derived_seed("training", step.settings.seed, iteration, policy.attempt),
        step.progress,
        step.settings.policy.quantization,
        tracked_run(step, iteration, step.run_id),
    )
    left_out = len(rows) - result.rows
    if left_out:
        step.progress.note(f"{left_out} of {len(rows)} rows had no neighbour of another tree: left out.")
    parent = policy.adapter_digest if settings.start == "previous" else None
    manifest = manifest_of(policy, parent, rows, result) | {
        # Commits the adapter to all that its rows came from, down to the corpus: see store/digests.py.
        "rows_generations": [step.warehouse.digest_of(source) for source in sources]
    }
    adapter = settle(result.adapter, step.home.adapters / result.digest, result.adapter.parent)
    # Beside the folder, not in it: the folder's digest covers all that lies in it.
    adapter.with_suffix(".json").write_text(json.dumps(manifest, indent=1, sort_keys=True))
    candidate = policy_digest(policy.base_digest, result.digest)
    names = ("adapter_digest", "base_digest", "parent_digest", "rows_digest", "rows")
    row = {name: manifest[name] for name in names} | {
        "policy_digest": candidate,
        "adapter_path": step.home.relative(adapter),
        "method": settings.method,
        "tokens": result.tokens,
        "seconds": result.seconds,
        "manifest": json.dumps(manifest),
    }
    tables = {"trainings": [row], "training_curves": curve_records(result.curve)}
    generation = step.warehouse.publish("adapter", iteration, step.run_id, tables, [policy.source, *sources])
    return Made(
        generation,
        version=result.digest,
        rows=1,
        facts=facts_of(row, "policy_digest", "adapter_digest", "method", "rows", "tokens")
        | {"went on from": parent or "the base", "rows left out": left_out, "seconds": round(result.seconds)}
        | ({FACT: result.link} if result.link else {})
        | unused_facts(step.warehouse, iteration),
    )


def manifest_of(policy: PolicyRow, parent: str | None, rows: list[Row], result: "TrainingResult") -> dict[str, Any]:
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


STAGE = Stage(
    name="adapter",
    asset="lora_adapter",
    about="The candidate: a LoRA adapter on the base, or all its weights, trained on the harvested rows. It lies in "
    "the home under its digest, beside a manifest with the digests of the rows and of its parent.",
    tables={"trainings": ("adapter_digest",), "training_curves": ("step",)},
    inputs=("policy", "preferences"),
    earlier=("preferences",),
    make=train_adapter,
    origins={
        "trainings.base_digest": ["policies.base_digest"],
        "trainings.parent_digest": ["policies.adapter_digest"],
        "trainings.rows_digest": ["preference_rows.row_id"],
        "trainings.adapter_digest": ["preference_rows.prompt", "preference_rows.sides", "policies.base_digest"],
    },
    kinds=frozenset({"huggingface", "duckdb"}),
)
