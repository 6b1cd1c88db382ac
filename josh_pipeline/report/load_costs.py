"""What a line's steps took, out of the store."""

from josh_pipeline.report.data import Cost
from josh_pipeline.report.lines import Line
from josh_pipeline.search.codec import USAGE
from josh_pipeline.search.tree import Usage
from josh_pipeline.stages.policy import policy_behind
from josh_pipeline.store.layout import TRY
from josh_pipeline.store.warehouse import Generation, Warehouse

STEPS = (
    ("rollouts", "rollouts", "policy"),
    ("adapter", "training", "preferences"),
    ("evaluation", "evaluation", "adapter"),
)
"""Stages whose cost is shown: (stage, its name for people, the stage before it)."""


def line_costs(warehouse: Warehouse, line: Line) -> list[Cost]:
    """What the cold start and every iteration took: what its scores came from, then its other runs.

    Those are reruns that nothing was evaluated of, or whose evaluation was replaced, and what is under way.
    """
    start = warehouse.rows(
        "SELECT seconds, tokens FROM current_base_models WHERE scope = ? AND demonstrations > 0",
        [line.rows[0].base_scope],
    )
    first = int(line.rows[0].iteration)
    costs = [Cost(first, "", "cold start", row["seconds"], Usage(completion_tokens=row["tokens"])) for row in start]
    counted: set[Generation] = set()
    paid: set[str] = set()
    for name, root in _roots(warehouse, line):
        for step, seconds, generation in _steps(warehouse, root):
            if generation not in counted:  # two candidates of one attempt share its search, which counts once
                counted.add(generation)
                used = _usage(warehouse, generation, paid)
                if name != OTHERS or used.requests or used.completion_tokens:
                    costs.append(Cost(int(root.scope), name, step, seconds, used))
    return sorted(costs, key=lambda cost: cost.iteration)


OTHERS = "other runs"


def _roots(warehouse: Warehouse, line: Line) -> list[tuple[str, Generation]]:
    """Return every generation of a line's iterations that costs may lie behind, with the name that they go under."""
    names = {
        Generation("evaluation", one.policy.iteration, one.evaluation): (
            "" if one.policy.is_baseline else line.name_of(one.candidate)
        )
        for one in line.attempts
    }
    written = warehouse.rows(
        "SELECT stage, scope, generation AS number FROM generations WHERE list_contains(?, stage) "
        "AND list_contains(?, scope) AND removed_at IS NULL ORDER BY created_at",
        [[stage for stage, _, _ in STEPS], [row.iteration for row in line.rows]],
    )
    others = [one for one in (Generation(**row) for row in written) if one not in names]
    of_line = [one for one in others if getattr(policy_behind(warehouse, one), "line", None) == line.rows[0].line]
    return [*((name, one) for one, name in names.items()), *((OTHERS, one) for one in of_line)]


def _steps(warehouse: Warehouse, root: Generation) -> list[tuple[str, float | None, Generation]]:
    """Return the long steps behind a generation: name, seconds, what it wrote.

    A step's time is that from the end of the step before, where the same run made both.
    """
    written = {
        row["stage"]: row
        for row in warehouse.rows(
            "SELECT g.stage, g.generation, g.run_id, g.created_at FROM generations_behind b JOIN generations g "
            "ON g.stage = b.input_stage AND g.scope = b.scope AND g.generation = b.input_generation "
            "WHERE b.stage = ? AND b.scope = ? AND b.generation = ?",
            [root.stage, root.scope, root.number],
        )
    }
    found = []
    for stage, step, before in STEPS:
        if (made := written.get(stage)) is None:
            continue
        begin = written.get(before) or written.get("policy")
        together = begin is not None and begin["run_id"] == made["run_id"]
        seconds = (made["created_at"] - begin["created_at"]).total_seconds() if begin and together else None
        found.append((step, seconds, Generation(stage, root.scope, made["generation"])))
    return found


def _usage(warehouse: Warehouse, generation: Generation, paid: set[str]) -> Usage:
    """What a step asked of its models, in all tries of what it lists.

    Args:
        paid: trees and conversations that count with another step, as a rule those that an iteration
            compares with; the step's own are added.
    """
    place = [generation.scope, generation.number]
    members = warehouse.layout.stages[generation.stage].members
    if members is None:
        sql = "SELECT tokens AS completion_tokens FROM trainings WHERE iteration = ? AND generation = ?"
        return Usage(**warehouse.rows(sql, place)[0])
    key = members.key
    tries = (
        f"SELECT DISTINCT {TRY} FROM {members.table} JOIN {members.head} USING ({key}) "
        "WHERE iteration = ? AND generation = ?"
    )
    listed = f"SELECT {key} FROM {members.head} JOIN ({tries}) USING ({TRY})"
    fresh = set(warehouse.query(listed, place)[key]) - paid
    paid |= fresh
    types = {name: "DOUBLE" if name in ("cost", "seconds") else "BIGINT" for name in USAGE}
    sums = ", ".join(f"coalesce(sum({name}), 0)::{kind} AS {name}" for name, kind in types.items())
    sql = f"SELECT {sums} FROM {members.head} WHERE list_contains(?, {key})"
    return Usage(**warehouse.rows(sql, [sorted(fresh)])[0])
