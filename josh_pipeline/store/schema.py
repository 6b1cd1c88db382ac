"""Which tables a stage writes, what names a row in each, and the views."""

from dataclasses import dataclass
from importlib.resources import files

SCHEMA_VERSION = 2
"""Raised with every released change of schema.sql: an older store is migrated, a newer one refused."""

STAGE_TABLES: dict[str, tuple[str, ...]] = {
    "corpus": ("corpora", "dialogues", "entities"),
    "goals": ("goals", "solvability"),
    "cold_start": ("base_models", "demonstrations", "cold_start_curves"),
    "policy": ("policies",),
    "rollouts": ("rollouts",),
    "labels": ("labels", "tree_labels"),
    "preferences": ("preference_rows", "row_nodes"),
    "adapter": ("trainings", "training_curves"),
    "evaluation": ("evaluation_episodes", "evaluations", "comparisons", "drifts"),
    "promotion": ("promotions",),
    "benchmark": ("benchmarks", "benchmark_episodes"),
}
"""Tables whose rows belong to a generation."""

GLOBAL_STAGES = ("corpus", "goals", "cold_start", "benchmark")
"""Stages that no iteration owns: their scope is a content hash of settings."""

STAGE_OF_TABLE = {table: stage for stage, tables in STAGE_TABLES.items() for table in tables}

ROW_KEYS: dict[str, tuple[str, ...]] = {
    "corpora": ("corpus_digest",),
    "dialogues": ("dialogue_id",),
    "entities": ("domain", "position"),
    "goals": ("goal_id",),
    "solvability": ("goal_id",),
    "base_models": ("base_digest",),
    "demonstrations": ("position",),
    "cold_start_curves": ("step",),
    "policies": ("policy_digest",),
    "trees": ("rollout_id",),
    "nodes": ("node_id",),
    "rollouts": ("rollout_id",),
    "labels": ("node_id",),
    "tree_labels": ("rollout_id",),
    "preference_rows": ("row_id",),
    "row_nodes": ("row_id", "node_id", "part"),
    "trainings": ("adapter_digest",),
    "training_curves": ("step",),
    "episodes": ("episode_id",),
    "evaluation_episodes": ("side", "role", "goal_kind", "episode_id"),
    "evaluations": ("side", "role", "goal_kind"),
    "comparisons": ("role", "goal_kind", "metric"),
    "drifts": ("policy_digest",),
    "promotions": ("policy_digest",),
    "benchmarks": ("policy_digest", "selection", "goal_kind"),
    "benchmark_episodes": ("episode_id",),
    "runs": ("run_id",),
}
"""What names a row in its table, within a generation where the table has generations."""

CONTENT_TABLES = {"trees": "rollout_id", "nodes": "rollout_id", "episodes": "episode_id"}
"""Tables named by content, and the column that holds the id of the tree or conversation."""


@dataclass(frozen=True)
class Members:
    """A stage's table that lists trees or conversations.

    Attributes:
        table: the list.
        key: the column that names them.
        content: the tables that hold them; the first has one row for each, with a column ``failure``.
    """

    table: str
    key: str
    content: tuple[str, ...]


MEMBERS = {
    "rollouts": Members("rollouts", "rollout_id", ("trees", "nodes")),
    "evaluation": Members("evaluation_episodes", "episode_id", ("episodes",)),
    "benchmark": Members("benchmark_episodes", "episode_id", ("episodes",)),
}


def scope_column(stage: str) -> str:
    """Name of the column that holds a stage's scope."""
    return "scope" if stage in GLOBAL_STAGES else "iteration"


def statements() -> tuple[str, ...]:
    """Return the SQL that makes an empty store."""
    return (text_of("schema.sql"), *view_statements())


def view_statements() -> tuple[str, ...]:
    """Return the SQL that makes the views, or makes them anew."""
    return (
        *(current_view(stage, table) for stage, tables in STAGE_TABLES.items() for table in tables),
        text_of("views.sql"),
    )


def text_of(name: str) -> str:
    """Text of a file beside this one."""
    return (files("josh_pipeline.store") / name).read_text()


def current_view(stage: str, table: str) -> str:
    """Return the SQL of the view of a table's current rows."""
    return (
        f"CREATE OR REPLACE VIEW current_{table} AS SELECT t.* FROM {table} t JOIN generations g "
        f"ON g.stage = '{stage}' AND g.scope = t.{scope_column(stage)} "
        "AND g.generation = t.generation AND g.current"
    )
