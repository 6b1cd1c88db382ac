"""What the steps of a line of iterations took, out of the store."""

from collections.abc import Iterator, Sequence
from typing import Any

from josh_pipeline.report.data import Cost
from josh_pipeline.report.lines import Line
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
    """What the cold start and every iteration took, refused attempts included."""
    base = warehouse.rows(
        "SELECT seconds, tokens FROM current_base_models WHERE scope = ? AND demonstrations > 0",
        [line.rows[0].base_scope],
    )
    first = int(line.rows[0].iteration)
    costs = [Cost(first, "", "cold start", row["seconds"], completion_tokens=row["tokens"]) for row in base]
    attempts = [(one.policy, one.candidate, one.evaluation, True) for one in line.refused]
    for row in line.rows:
        current = warehouse.current("evaluation", row.iteration)
        assert current is not None, "a line's iterations are evaluated"
        attempts.append((row, line.candidates[row.iteration], current.number, False))
    told: set[tuple[str, str, int]] = set()
    searched: set[str] = set()
    for policy, candidate, evaluation, refused in sorted(attempts, key=lambda one: one[0].iteration):
        name = "" if policy.is_baseline else line.name_of(candidate)
        for stage, step, seconds, generation in _steps(warehouse, policy.iteration, evaluation):
            # Two candidates of one attempt share its search: it is told of with the first.
            if (policy.iteration, stage, generation) in told:
                continue
            told.add((policy.iteration, stage, generation))
            if stage == "rollouts":
                used = _spent_searching(warehouse, policy.iteration, generation, searched)
            else:
                used = _used(warehouse, stage, policy.iteration, generation, line.iterations, refused)
            costs.append(Cost(int(policy.iteration), name, step, seconds, **used))
    return costs


def _spent_searching(
    warehouse: Warehouse, iteration: str, generation: int, searched: set[str]
) -> dict[str, Any]:
    """What the trees of a generation took that no generation before it held; adds them to ``searched``."""
    trees = warehouse.query(
        "SELECT rollout_id FROM rollouts WHERE iteration = ? AND generation = ?", [iteration, generation]
    )["rollout_id"]
    fresh = [tree for tree in trees if tree not in searched]
    searched.update(fresh)
    return warehouse.rows(f"SELECT {USED} FROM trees WHERE list_contains(?, rollout_id)", [fresh])[0]


def _steps(
    warehouse: Warehouse, iteration: str, evaluation: int
) -> Iterator[tuple[str, str, float | None, int]]:
    """Yield the long steps behind an evaluation: stage, name, seconds, generation.

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
        yield stage, step, seconds, made["generation"]


def _used(
    warehouse: Warehouse, stage: str, iteration: str, generation: int, line: Sequence[str], refused: bool
) -> dict[str, Any]:
    """Requests, tokens and money of training and evaluation."""
    if stage == "adapter":
        return warehouse.rows(
            "SELECT tokens AS completion_tokens FROM trainings WHERE iteration = ? AND generation = ?",
            [iteration, generation],
        )[0]
    if refused:
        # What it was held against was played before; the attempt that replaced it shares that.
        return warehouse.rows(
            f"SELECT {USED} FROM evaluation_episodes JOIN episodes USING (episode_id) "
            "WHERE iteration = ? AND generation = ? AND side = 'after'",
            [iteration, generation],
        )[0]
    # What an iteration compares with was, as a rule, played by the one before it: counted there.
    return warehouse.rows(
        "WITH played AS (SELECT episode_id, min(iteration) AS iteration FROM current_evaluation_episodes "
        "WHERE list_contains(?, iteration) GROUP BY episode_id) "
        f"SELECT {USED} FROM played JOIN episodes USING (episode_id) WHERE iteration = ?",
        [list(line), iteration],
    )[0]
