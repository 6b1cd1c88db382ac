"""What the steps of a line of iterations took, out of the store."""

from collections.abc import Sequence
from typing import Any

from josh_pipeline.report.data import Cost
from josh_pipeline.report.lines import Line
from josh_pipeline.stages.policy import PolicyRow
from josh_pipeline.store.warehouse import Warehouse

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
    """What the cold start and every iteration took."""
    base = warehouse.rows(
        "SELECT seconds, tokens FROM current_base_models WHERE scope = ? AND demonstrations > 0",
        [line.rows[0].base_scope],
    )
    first = int(line.rows[0].iteration)
    costs = [Cost(first, "", "cold start", row["seconds"], completion_tokens=row["tokens"]) for row in base]
    for row in line.rows:
        costs += _iteration_costs(warehouse, line, row)
    return costs


def _iteration_costs(warehouse: Warehouse, line: Line, policy: PolicyRow) -> list[Cost]:
    """What an iteration's long steps took: the time from the end of the step before, in the same run."""
    written = {
        row["stage"]: (row["run_id"], row["created_at"])
        for row in warehouse.rows(
            "SELECT stage, run_id, created_at FROM generations WHERE scope = ? AND current",
            [policy.iteration],
        )
    }
    costs = []
    for stage, step, before in STEPS:
        if stage not in written:
            continue
        run, ended = written[stage]
        begin = written.get(before) or written.get("policy")
        seconds = (ended - begin[1]).total_seconds() if begin and begin[0] == run else None
        used = _used(warehouse, stage, line.iterations, policy.iteration)
        costs.append(Cost(int(policy.iteration), line.round_of(policy), step, seconds, **used))
    return costs


def _used(warehouse: Warehouse, stage: str, line: Sequence[str], iteration: str) -> dict[str, Any]:
    """Requests, tokens and money of a step."""
    if stage == "rollouts":
        return warehouse.rows(f"SELECT {USED} FROM current_trees WHERE iteration = ?", [iteration])[0]
    if stage == "evaluation":
        # What an iteration compares with was, as a rule, played by the one before it: counted there.
        return warehouse.rows(
            "WITH played AS (SELECT episode_id, min(iteration) AS iteration FROM current_evaluation_episodes "
            "WHERE list_contains(?, iteration) GROUP BY episode_id) "
            f"SELECT {USED} FROM played JOIN episodes USING (episode_id) WHERE iteration = ?",
            [list(line), iteration],
        )[0]
    trained = warehouse.rows("SELECT tokens FROM current_trainings WHERE iteration = ?", [iteration])
    return {"completion_tokens": trained[0]["tokens"]} if trained else {}
