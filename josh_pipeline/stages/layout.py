"""The tables of the stages, and the homes that hold them."""

from pathlib import Path

from josh_pipeline.store.home import Home, home_folder
from josh_pipeline.store.layout import Layout, Members, StageLayout

LAYOUT = Layout(
    (
        StageLayout(
            "corpus",
            {
                "corpora": ("corpus_digest",),
                "sources": ("source_id",),
                "entities": ("collection", "position"),
            },
            scope="scope",
        ),
        StageLayout("goals", {"goals": ("goal_id",), "solvability": ("goal_id",)}, scope="scope"),
        StageLayout(
            "cold_start",
            {
                "base_models": ("base_digest",),
                "demonstrations": ("position",),
                "cold_start_curves": ("step",),
            },
            scope="scope",
        ),
        StageLayout("policy", {"policies": ("policy_digest",)}),
        StageLayout(
            "rollouts",
            {"rollouts": ("rollout_id",)},
            members=Members("rollouts", "rollout_id", ("trees", "nodes")),
        ),
        StageLayout("labels", {"labels": ("node_id",), "tree_labels": ("rollout_id",)}),
        StageLayout(
            "preferences",
            {"preference_rows": ("row_id",), "row_nodes": ("row_id", "node_id", "part")},
        ),
        StageLayout("adapter", {"trainings": ("adapter_digest",), "training_curves": ("step",)}),
        StageLayout(
            "evaluation",
            {
                "evaluations": ("side", "role", "goal_kind"),
                "evaluation_episodes": ("side", "role", "goal_kind", "episode_id"),
                "comparisons": ("role", "goal_kind", "metric"),
                "drifts": ("policy_digest",),
            },
            members=Members("evaluation_episodes", "episode_id", ("episodes",)),
        ),
        StageLayout("promotion", {"promotions": ("policy_digest",)}),
        StageLayout(
            "benchmark",
            {
                "benchmarks": ("policy_digest", "selection", "goal_kind"),
                "benchmark_episodes": ("episode_id",),
            },
            scope="scope",
            members=Members("benchmark_episodes", "episode_id", ("episodes",)),
        ),
    )
)


def open_home(path: str | Path | None = None) -> Home:
    """Return a home, making its folder where there is none.

    Args:
        path: the folder; None for ``$JOSH_HOME``, else ``./.josh``.

    Raises:
        UserError: the folder cannot be made or written to.
    """
    return Home(home_folder(path), LAYOUT)
