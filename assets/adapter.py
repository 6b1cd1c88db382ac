"""Asset ``lora_adapter``."""

import dagster as dg

from assets.columns import described
from assets.partitions import ITERATIONS, LOOP_POOL, OWNERS
from assets.preferences import preference_pairs
from assets.resources import JoshResource
from assets.shown import figure, stored
from josh_pipeline.report.data import TrainingCurve
from josh_pipeline.report.work_figures import training_curves
from josh_pipeline.stages.adapter import train_adapter


@dg.asset(
    group_name="iteration",
    partitions_def=ITERATIONS,
    pool=LOOP_POOL,
    kinds={"huggingface", "duckdb"},
    owners=OWNERS,
    deps=[preference_pairs],
    metadata=described("lora_adapter"),
    description="The candidate: a LoRA adapter on the base, trained on the harvested rows with TRL. Its "
    "weights lie in the home under their digest, beside a manifest with the digests of the rows and of its "
    "parent. Tables `trainings`, `training_curves`.",
)
def lora_adapter(context: dg.AssetExecutionContext, josh: JoshResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Train the adapter."""
    with josh.step(context) as step:
        summary = train_adapter(step, context.partition_key)
    metadata = {
        **stored("lora_adapter", summary.generation, 1),
        "policy digest": summary.policy_digest,
        "adapter digest": summary.adapter_digest,
        "went on from": summary.parent_digest or "the base",
        "method": summary.method,
        "rows": summary.rows,
        "rows left out": summary.left_out,
        "tokens": summary.tokens,
        "seconds": round(summary.seconds),
    }
    points = tuple((int(p["step"]), float(p["loss"])) for p in summary.curve if "loss" in p)
    if points:
        name = f"iteration {context.partition_key}"
        metadata["training"] = figure(training_curves([TrainingCurve(name, summary.method, points)]))
    return dg.MaterializeResult(data_version=dg.DataVersion(summary.adapter_digest), metadata=metadata)
