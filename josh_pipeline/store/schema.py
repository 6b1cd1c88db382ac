"""Which tables a stage writes, and the views that show what is current."""

from importlib.resources import files

SCHEMA_VERSION = 1
"""Raised with every change of schema.sql; a store of another version is refused with one sentence."""

STAGE_TABLES: dict[str, tuple[str, ...]] = {
    "corpus": ("corpora", "dialogues", "entities"),
    "goals": ("goals", "solvability"),
    "cold_start": ("base_models", "demonstrations", "cold_start_curves"),
    "policy": ("policies",),
    "rollouts": ("rollouts",),
    "labels": ("labels", "tree_labels"),
    "preferences": ("preference_rows", "row_nodes"),
    "adapter": ("trainings", "training_curves"),
    "evaluation": ("evaluation_episodes", "evaluations", "comparisons"),
    "promotion": ("promotions",),
    "benchmark": ("benchmarks", "benchmark_episodes"),
}
"""Tables whose rows belong to a generation."""

GLOBAL_STAGES = ("corpus", "goals", "cold_start", "benchmark")
"""Stages that no iteration owns: their scope is a content hash of settings."""


def scope_column(stage: str) -> str:
    """Name of the column that holds a stage's scope."""
    return "scope" if stage in GLOBAL_STAGES else "iteration"


def statements() -> tuple[str, ...]:
    """Return the SQL that makes an empty store."""
    tables = (files("josh_pipeline.store") / "schema.sql").read_text()
    return (
        tables,
        *(current_view(stage, table) for stage, tables_ in STAGE_TABLES.items() for table in tables_),
        *MEMBER_VIEWS,
    )


def current_view(stage: str, table: str) -> str:
    """Return the SQL of the view of a table's current rows."""
    return (
        f"CREATE VIEW current_{table} AS SELECT t.* FROM {table} t JOIN generations g "
        f"ON g.stage = '{stage}' AND g.scope = t.{scope_column(stage)} "
        "AND g.generation = t.generation AND g.current"
    )


MEMBER_VIEWS = (
    "CREATE VIEW current_trees AS SELECT r.iteration, r.generation, r.position, t.* "
    "FROM current_rollouts r JOIN trees t USING (rollout_id)",
    "CREATE VIEW current_nodes AS SELECT r.iteration, r.generation, n.* "
    "FROM current_rollouts r JOIN nodes n USING (rollout_id)",
    "CREATE VIEW current_episodes AS SELECT m.iteration, m.generation, m.side, m.role, m.goal_kind, e.* "
    "FROM current_evaluation_episodes m JOIN episodes e USING (episode_id)",
)
"""Views of what is named by content, with the iterations that use it (a row for each use)."""
