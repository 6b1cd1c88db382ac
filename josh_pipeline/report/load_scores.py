"""Scores, changes between policies, drifts and decisions out of the store."""

import json
from collections.abc import Mapping
from typing import Any

from josh_pipeline.evaluation.gate import NOT_THE_POLICY
from josh_pipeline.evaluation.playing import CONVERSATION
from josh_pipeline.evaluation.statistics import paired_bootstrap
from josh_pipeline.evaluation.summary import score_from
from josh_pipeline.report.data import Decision, Metric, PolicyChange, PolicyDrift, PolicyScore
from josh_pipeline.report.lines import Attempt, Line, all_lines, environment_of
from josh_pipeline.report.words import goal_kind
from josh_pipeline.stages.drift import drift_of
from josh_pipeline.stages.evaluation import GATE
from josh_pipeline.stages.policy import PolicyRow
from josh_pipeline.store.warehouse import Warehouse

Outcomes = dict[tuple[str, int], tuple[float, bool]]
"""(goal id, trial) to (reward, success)."""
RULES = {"evaluation": CONVERSATION, "user": ("kind", "model", "max_turns"), "policy": ("agent", "results")}
"""Settings that shape a conversation, by section."""
METRICS: tuple[Metric, ...] = ("reward", "success")
"""In the order of an outcome's values."""


def home_scores(warehouse: Warehouse) -> list[PolicyScore]:
    """Scores of every policy of a home on test goals: what ``josh scores`` prints."""
    return [
        score
        for line in all_lines(warehouse)
        for score in line_scores(warehouse, line)
        if not score.role.startswith("val")
    ]


def line_scores(warehouse: Warehouse, line: Line) -> list[PolicyScore]:
    """Scores of a line's policies: test goals first, then other benchmarks, then the gate's goals.

    Attempts that were refused and replaced stand before the one that replaced them.
    """
    promoted = {decision.name: decision.promoted for decision in line_decisions(warehouse, line)}
    evaluated = "SELECT * FROM evaluations WHERE iteration = ? AND generation = ? AND side = 'after'"
    scores = [
        _score(warehouse, line, attempt, promoted, found, found["role"])
        for attempt in line.attempts
        for found in warehouse.rows(evaluated, [attempt.policy.iteration, attempt.evaluation])
    ]
    played = {score.goals.name for score in scores}
    made = {attempt.candidate: attempt for attempt in reversed(line.attempts)}
    for found in warehouse.rows(
        "SELECT * FROM current_benchmarks WHERE list_contains(?, policy_digest) ORDER BY iteration, selection, n",
        [list(made)],
    ):
        attempt, role = made[found["policy_digest"]], found["selection"]
        if found["goal_kind"] in played and role in ("test", "val"):
            role = f"{role} ({_share_played(warehouse, attempt.policy, found)})"
        rules = (
            _rules(warehouse, "benchmark", found["scope"], found["generation"]),
            _rules(warehouse, "evaluation", attempt.policy.iteration, attempt.evaluation),
        )
        role = ", ".join([role, *(f"{name} {shown}" for name, shown in rules[0].items() if rules[1][name] != shown)])
        scores.append(_score(warehouse, line, attempt, promoted, found, role))
    return sorted(
        scores,
        key=lambda s: (
            s.role.startswith("val"), s.goals.name not in played, s.role != "test", s.iteration, s.attempt,
        ),
    )  # fmt: skip


def _share_played(warehouse: Warehouse, row: PolicyRow, found: Mapping[str, Any]) -> str:
    """How much of a role a benchmark played: ``all``, or ``first 20`` where a number was asked for."""
    every = warehouse.rows(
        "SELECT count(*) AS n FROM current_goals WHERE scope = ? AND kind = ? AND role = ? AND excluded IS NULL",
        [row.goals_scope, found["goal_kind"], found["selection"]],
    )[0]["n"]
    return "all" if (found["corpus"], found["n"]) == (row.corpus, every) else f"first {found['n']}"


def _rules(warehouse: Warehouse, stage: str, scope: str, generation: int) -> dict[str, Any]:
    """Return the settings that shaped the conversations of a generation: scores under others do not compare."""
    record = warehouse.rows(
        "SELECT settings FROM runs JOIN generations USING (run_id) WHERE stage = ? AND scope = ? AND generation = ?",
        [stage, scope, generation],
    )[0]["settings"]
    values = json.loads(record)
    return {f"{section}.{name}": values[section].get(name) for section, names in RULES.items() for name in names}


def _score(
    warehouse: Warehouse,
    line: Line,
    attempt: Attempt,
    promoted: Mapping[str, bool],
    found: Mapping[str, Any],
    role: str,
) -> PolicyScore:
    """Read a row of ``evaluations``, or of ``benchmarks``, which names its corpus and may be of another."""
    row, name = attempt.policy, line.name_of(attempt.candidate)
    environment = line.environment
    if "corpus" in found:
        environment = environment_of(warehouse, "benchmark", found["scope"])
    return PolicyScore(
        iteration=int(row.iteration),
        attempt=row.attempt,
        superseded=attempt.refused is not None,
        name=name,
        corpus=found.get("corpus", row.corpus),
        goals=goal_kind(found["goal_kind"], environment),
        role=role,
        score=score_from(found["details"]),
        promoted=promoted.get(name),
        **({} if row.is_baseline else _trained_on(warehouse, attempt)),
    )


def _trained_on(warehouse: Warehouse, attempt: Attempt) -> dict[str, int]:
    """Count what a candidate was trained on, which is not what the iteration holds once it runs again."""
    return warehouse.rows(
        "WITH behind AS (SELECT input_stage AS stage, scope AS iteration, input_generation AS generation "
        "FROM generations_behind WHERE stage = 'evaluation' AND scope = ? AND generation = ?), "
        "searched AS (SELECT t.reward FROM behind JOIN rollouts USING (iteration, generation) "
        "JOIN trees t USING (rollout_id) WHERE stage = 'rollouts') "
        "SELECT (SELECT count(*) FROM searched) AS trees, "
        "(SELECT count(*) FROM searched WHERE reward = 1) AS full_trees, "
        "(SELECT count(*) FROM behind JOIN preference_rows USING (iteration, generation) "
        "WHERE stage = 'preferences') AS rows",
        [attempt.policy.iteration, attempt.evaluation],
    )[0]


def line_drifts(warehouse: Warehouse, line: Line) -> list[PolicyDrift]:
    """Drifts of a line's policies; none for iterations that were evaluated before it was measured."""
    return [
        PolicyDrift(
            iteration=int(row.iteration),
            name=line.name_of(found["policy_digest"]),
            drift=drift_of(found),
            max_drift=found["max_drift"],
            reason=found["reason"],
        )
        for row in line.rows
        for found in warehouse.rows("SELECT * FROM current_drifts WHERE iteration = ?", [row.iteration])
    ]


def line_decisions(warehouse: Warehouse, line: Line) -> list[Decision]:
    """What the gate decided on each round's candidates, those of refused attempts included."""
    decisions = []
    for attempt in line.attempts:
        iteration, name = attempt.policy.iteration, line.name_of(attempt.candidate)
        if attempt.refused is not None:
            decisions.append(Decision(int(iteration), name, False, attempt.refused))
        elif not attempt.policy.is_baseline:
            for found in warehouse.rows(
                "SELECT promoted, reason FROM current_promotions WHERE iteration = ? AND policy_digest = ?",
                [iteration, attempt.candidate],
            ):
                decisions.append(Decision(int(iteration), name, **found))
    return decisions


def line_changes(warehouse: Warehouse, line: Line, resamples: int) -> list[PolicyChange]:
    """Hold each round against the policy before it, and the last round against the base.

    Args:
        resamples: of the bootstrap of the latter, which the store does not hold.
    """
    found = []
    for row in line.rounds:
        for stored in warehouse.rows("SELECT * FROM current_comparisons WHERE iteration = ?", [row.iteration]):
            sides = [outcomes(warehouse, row.iteration, side, stored["role"]) for side in ("before", "after")]
            found.append(_change(line, row.iteration, row.policy_digest, stored, *sides))
    if len(line.rounds) > 1:
        found += _overall(warehouse, line, resamples)
    return sorted(found, key=lambda change: (change.role == "val", change.metric == "reward"))


def _overall(warehouse: Warehouse, line: Line, resamples: int) -> list[PolicyChange]:
    """Hold the last round against the base; nothing where they were not evaluated on the same goals."""
    first, last = line.rows[0].iteration, line.rows[-1].iteration
    before, after = (outcomes(warehouse, iteration, "after", "test") for iteration in (first, last))
    if not before or before.keys() != after.keys():
        return []
    about = warehouse.rows(
        "SELECT DISTINCT role, goal_kind FROM current_evaluations WHERE iteration = ? AND role = 'test'", [last]
    )[0]
    keys = sorted(before)
    found = []
    for place, metric in enumerate(METRICS):
        old, new = ([float(side[key][place]) for key in keys] for side in (before, after))
        change = paired_bootstrap(old, new, resamples)
        means = {"before": sum(old) / len(old), "after": sum(new) / len(new), "difference": change.diff}
        record = about | vars(change) | means | {"metric": metric}
        found.append(_change(line, last, line.candidates[first], record, before, after))
    return found


def _change(
    line: Line, iteration: str, before: str, record: Mapping[str, Any], old: Outcomes, new: Outcomes
) -> PolicyChange:
    """Describe a change from a policy to an iteration's candidate.

    Args:
        before: digest of the policy.
        record: a row of ``comparisons``.
        old, new: how the goals ended, which says how many changed hands.
    """
    pairs = [(old[key][1], new[key][1]) for key in old.keys() & new.keys()]
    return PolicyChange(
        iteration=int(iteration),
        before=line.name_of(before),
        after=line.name_of(line.candidates[iteration]),
        goals=line.kind(record["goal_kind"]),
        mean_before=record["before"],
        mean_after=record["after"],
        won=pairs.count((False, True)),
        lost=pairs.count((True, False)),
        both=pairs.count((True, True)),
        neither=pairs.count((False, False)),
        **{name: record[name] for name in ("role", "metric", "n", "difference", "low", "high")},
    )


def outcomes(warehouse: Warehouse, iteration: str, side: str, role: str) -> Outcomes:
    """How the goals of one evaluation ended; on the gate's goals those that the gate looks at."""
    return {
        (row["goal_id"], row["trial"]): (row["reward"], row["success"])
        for row in warehouse.rows(
            "SELECT goal_id, trial, reward, success FROM current_episodes "
            "WHERE iteration = ? AND side = ? AND role = ? "
            "AND (failure IS NULL OR NOT list_contains(?, failure))",
            [iteration, side, role, list(NOT_THE_POLICY) if role == GATE else []],
        )
    }
