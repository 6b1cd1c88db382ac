"""What the steps of a line of iterations took, out of the store."""

from collections.abc import Iterator
from typing import Any

from josh_pipeline.report.data import Cost
from josh_pipeline.report.lines import Line
from josh_pipeline.store.schema import MEMBERS
from josh_pipeline.store.warehouse import Generation, Warehouse

STEPS = (
    ("rollouts", "rollouts", "policy"),
    ("adapter", "training", "preferences"),
    ("evaluation", "evaluation", "adapter"),
)
"""Stages whose cost is shown: (stage, its name for people, the stage before it)."""

USED = (
    "coalesce(sum(requests), 0)::BIGINT AS requests, "
    "coalesce(sum(prompt_tokens), 0)::BIGINT AS prompt_tokens, "
    "coalesce(sum(cached_tokens), 0)::BIGINT AS cached_tokens, "
    "coalesce(sum(completion_tokens), 0)::BIGINT AS completion_tokens, "
    "coalesce(sum(user_prompt_tokens + user_completion_tokens), 0)::BIGINT AS user_tokens, "
    "coalesce(sum(cost), 0) AS money"
)


def line_costs(warehouse: Warehouse, line: Line) -> list[Cost]:
    """What the cold start and every iteration took, refused attempts included."""
    base = warehouse.rows(
        "SELECT seconds, tokens FROM current_base_models WHERE scope = ? AND demonstrations > 0",
        [line.rows[0].base_scope],
    )
    first = int(line.rows[0].iteration)
    costs = [Cost(first, "", "cold start", row["seconds"], completion_tokens=row["tokens"]) for row in base]
    attempts = [(one.policy, one.candidate, one.evaluation) for one in line.refused]
    for row in line.rows:
        current = warehouse.current("evaluation", row.iteration)
        assert current is not None, "a line's iterations are evaluated"
        attempts.append((row, line.candidates[row.iteration], current.number))
    told: set[Generation] = set()
    counted: set[str] = set()
    for policy, candidate, evaluation in sorted(attempts, key=lambda one: one[0].iteration):
        name = "" if policy.is_baseline else line.name_of(candidate)
        for step, seconds, generation in _steps(warehouse, policy.iteration, evaluation):
            # Two candidates of one attempt share its search: it is told of with the first.
            if generation not in told:
                told.add(generation)
                used = _used(warehouse, generation, counted)
                costs.append(Cost(int(policy.iteration), name, step, seconds, **used))
    return costs


def _steps(
    warehouse: Warehouse, iteration: str, evaluation: int
) -> Iterator[tuple[str, float | None, Generation]]:
    """Yield the long steps behind an evaluation: name, seconds, what it wrote.

    A step's time is that from the end of the step before, where the same run made both.
    """
    written = {
        row["stage"]: row
        for row in warehouse.rows(
            "WITH RECURSIVE behind AS (SELECT 'evaluation' AS stage, $evaluation::INTEGER AS generation "
            "UNION SELECT i.input_stage, i.input_generation FROM behind b JOIN generation_inputs i "
            "ON i.stage = b.stage AND i.generation = b.generation "
            "WHERE i.scope = $iteration AND i.input_scope = $iteration) "
            "SELECT g.stage, g.generation, g.run_id, g.created_at FROM behind JOIN generations g "
            "USING (stage, generation) WHERE g.scope = $iteration ORDER BY g.generation",
            {"iteration": iteration, "evaluation": evaluation},
        )
    }
    for stage, step, before in STEPS:
        if (made := written.get(stage)) is None:
            continue
        begin = written.get(before) or written.get("policy")
        together = begin is not None and begin["run_id"] == made["run_id"]
        seconds = (made["created_at"] - begin["created_at"]).total_seconds() if begin and together else None
        yield step, seconds, Generation(stage, iteration, made["generation"])


def _used(warehouse: Warehouse, generation: Generation, counted: set[str]) -> dict[str, Any]:
    """Requests, tokens and money of a step.

    Args:
        counted: trees and conversations that another step was told to have cost, as a rule those that an
            iteration compares with; the step's own are added.
    """
    place = [generation.scope, generation.number]
    if generation.stage == "adapter":
        return warehouse.rows(
            "SELECT tokens AS completion_tokens FROM trainings WHERE iteration = ? AND generation = ?", place
        )[0]
    members = MEMBERS[generation.stage]
    key = members.key
    found = warehouse.query(
        f"SELECT {key} FROM {members.table} WHERE iteration = ? AND generation = ?", place
    )[key]
    fresh = set(found) - counted
    counted |= fresh
    return warehouse.rows(
        f"SELECT {USED} FROM {members.content[0]} WHERE {key} IN (SELECT unnest(?::VARCHAR[]))",
        [sorted(fresh)],
    )[0]
