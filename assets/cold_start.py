"""Asset ``cold_start``."""

import dagster as dg

from assets.columns import described
from assets.goals import toolwoz_goals
from assets.partitions import ITERATIONS, OWNERS
from assets.resources import JoshResource
from assets.shown import figure, sample, stored
from josh_pipeline.report.data import TrainingCurve
from josh_pipeline.report.work_figures import training_curves
from josh_pipeline.stages.cold_start import make_base
from josh_pipeline.stages.state import coming_iteration

SAMPLE = (
    "SELECT dialogue_id AS dialogue, reward, messages FROM current_demonstrations WHERE scope = ? "
    "ORDER BY position"
)


@dg.asset(
    group_name="corpus",
    kinds={"huggingface", "duckdb"},
    owners=OWNERS,
    deps=[toolwoz_goals],
    metadata=described("cold_start"),
    description="The base model: the model as published, taught the agent's format by scripted conversations "
    "on training goals where the settings ask for it. The script is sloppy on purpose (it claims bookings, "
    "drops constraints, denies results): that leaves errors which the reward can filter, and it means that "
    "a part of what iterations mend was put in. Tables `base_models`, `demonstrations`.",
)
def cold_start(context: dg.AssetExecutionContext, josh: JoshResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Fetch the foundation and train the cold start on it."""
    with josh.step(context) as step:
        summary = make_base(step)
        coming, _ = coming_iteration(step)
        shown = sample(step, SAMPLE, [summary.generation.scope])
        step.home.remember_settings(step.settings)
    # So that the UI has a partition to go on with.
    context.instance.add_dynamic_partitions(str(ITERATIONS.name), [coming])
    metadata = {
        **stored("cold_start", summary.generation, summary.demonstrations),
        "model": summary.model,
        "base digest": summary.base_digest,
        "demonstrations": summary.demonstrations,
        "demonstrations with full reward": summary.full_reward,
        "mean reward of the demonstrations": round(summary.mean_reward, 3),
        "next iteration": coming,
        "tokens": summary.tokens,
        "seconds": round(summary.seconds),
        **shown,
    }
    points = tuple((int(p["step"]), float(p["loss"])) for p in summary.curve if "loss" in p)
    if points:
        metadata["training"] = figure(training_curves([TrainingCurve("cold start", "cold start", points)]))
    return dg.MaterializeResult(data_version=dg.DataVersion(summary.base_digest), metadata=metadata)
