"""Step ``toolwoz_goals``: goals with their roles into the store, and out of it again."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import polars as pl

from josh_pipeline.core.errors import UserError
from josh_pipeline.environments.toolwoz.goal import DOMAINS, DomainTask, Goal, GroundTruthCall
from josh_pipeline.environments.toolwoz.goals import derive_goals
from josh_pipeline.environments.toolwoz.oracle import solvability
from josh_pipeline.environments.toolwoz.records import Corpus
from josh_pipeline.environments.toolwoz.roles import Role, has_all_splits, role_of, roles_sentence
from josh_pipeline.environments.toolwoz.world import worlds
from josh_pipeline.settings import GoalSettings
from josh_pipeline.stages.corpus import stored_corpus
from josh_pipeline.stages.scopes import corpus_scope, goals_scope
from josh_pipeline.stages.step import Step
from josh_pipeline.store.warehouse import Generation, Warehouse

GoalKind = Literal["part", "whole"]
ROLES: tuple[Role, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class GoalsSummary:
    """What was derived.

    Attributes:
        usable: number by (kind, role).
        excluded: whole goals by reason.
        solvable: goals that the oracle solves, by kind.
        roles: a sentence that says where the roles come from.
    """

    generation: Generation
    corpus: str
    usable: dict[tuple[GoalKind, Role], int]
    excluded: dict[str, int]
    solvable: dict[str, int]
    roles: str


def played_kind(step: Step) -> GoalKind:
    """Whether the loop plays parts or whole goals."""
    return "part" if step.settings.goals.parts else "whole"


def store_goals(step: Step) -> GoalsSummary:
    """Derive the whole goals of the stored corpus, and its parts where the settings play parts.

    Raises:
        UserError: the corpus is not in the store, or gives no usable goal for a role.
    """
    settings = step.settings.goals
    source = step.require("corpus", corpus_scope(step.settings.corpus), "multiwoz_dialogues")
    corpus = stored_corpus(step.warehouse, source.scope, dialogues=True)
    goals = derived_goals(corpus, settings)
    verdicts = solvability(goals, worlds(corpus, settings.semantics))
    rows = goal_records(corpus, goals, settings)
    usable = Counter((row["kind"], row["role"]) for row in rows if row["excluded"] is None)
    missing = [role for role in ROLES if not usable[played_kind(step), role]]
    if missing:
        raise UserError(
            f"{corpus.name} gives no usable goal of role {' and '.join(missing)}: "
            "choose another corpus, or allow more goals.domains."
        )
    solved = [
        {
            "goal_id": verdict.goal.goal_id,
            "reward": verdict.reward,
            "solvable": not verdict.missed,
            "missed": list(verdict.missed),
        }
        for verdict in verdicts
    ]
    tables = {
        "goals": pl.DataFrame(rows, infer_schema_length=None),
        "solvability": pl.DataFrame(solved, schema_overrides={"missed": pl.List(pl.String)}),
    }
    generation = step.warehouse.publish(
        "goals", goals_scope(step.settings), step.run_id, tables, inputs=[source]
    )
    return GoalsSummary(
        generation=generation,
        corpus=corpus.name,
        usable=dict(usable),
        excluded=dict(Counter(goal.excluded for goal in goals if goal.excluded and goal.part is None)),
        solvable=dict(Counter(kind_of(verdict.goal) for verdict in verdicts if not verdict.missed)),
        roles=roles_sentence(corpus),
    )


def derived_goals(corpus: Corpus, settings: GoalSettings) -> list[Goal]:
    """Derive the whole goals of a corpus, then its parts where the settings play parts."""
    # With parts, ``domains`` says which parts are played; whole goals stay ToolWOZ's own.
    whole = DOMAINS if settings.parts else settings.domains
    goals = derive_goals(corpus, settings.semantics, domains=whole)
    if settings.parts:
        goals += derive_goals(corpus, settings.semantics, parts=True, domains=settings.domains)
    return goals


def goal_records(corpus: Corpus, goals: Sequence[Goal], settings: GoalSettings) -> list[dict[str, Any]]:
    """Return the rows of table ``goals``, with the roles of a corpus."""
    official = has_all_splits(corpus)
    return [
        {
            "corpus_digest": corpus.digest,
            "goal_id": goal.goal_id,
            "position": position,
            "dialogue_id": goal.dialogue_id,
            "split": goal.split,
            "role": role_of(goal, official),
            "kind": kind_of(goal),
            "part": goal.part,
            "semantics": settings.semantics,
            "message": json.dumps(goal.message),
            "tasks": json.dumps([asdict(task) for task in goal.tasks]),
            "calls": json.dumps([asdict(call) for call in goal.calls]),
            "excluded": goal.excluded,
        }
        for position, goal in enumerate(goals)
    ]


def kind_of(goal: Goal) -> GoalKind:
    """Whether a goal is a part or whole."""
    return "whole" if goal.part is None else "part"


def stored_goals(
    warehouse: Warehouse,
    scope: str,
    *,
    kind: GoalKind | None = None,
    role: Role | None = None,
    ids: Sequence[str] | None = None,
    usable: bool = True,
) -> list[Goal]:
    """Return stored goals in the corpus's order.

    Args:
        scope: see ``goals_scope``.
        kind, role, ids: only those; None for all.
        usable: leave excluded goals out.
    """
    sql = "SELECT * FROM current_goals WHERE scope = $scope"
    values: dict[str, Any] = {"scope": scope}
    for name, value in (("kind", kind), ("role", role)):
        if value is not None:
            sql += f" AND {name} = ${name}"
            values[name] = value
    if ids is not None:
        sql += " AND list_contains($ids, goal_id)"
        values["ids"] = list(ids)
    if usable:
        sql += " AND excluded IS NULL"
    return [goal_from_row(row) for row in warehouse.rows(f"{sql} ORDER BY position", values)]


def goal_from_row(row: dict[str, Any]) -> Goal:
    """Rebuild a goal from its row."""
    tasks = [task | {"requested": tuple(task["requested"])} for task in json.loads(row["tasks"])]
    return Goal(
        goal_id=row["goal_id"],
        dialogue_id=row["dialogue_id"],
        split=row["split"],
        part=row["part"],
        message=tuple(json.loads(row["message"])),
        tasks=tuple(DomainTask(**task) for task in tasks),
        calls=tuple(GroundTruthCall(**call) for call in json.loads(row["calls"])),
        excluded=row["excluded"],
    )
