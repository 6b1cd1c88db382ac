"""Scores and comparisons out of the store."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from josh_pipeline.evaluation.statistics import paired_bootstrap
from josh_pipeline.evaluation.summary import Breakdown
from josh_pipeline.report.data import Comparison, Decision, GoalKind, Metric, PolicyDrift, PolicyScore
from josh_pipeline.report.lines import Line, all_lines
from josh_pipeline.stages.drift import drift_of
from josh_pipeline.stages.evaluation import GATE, NOT_THE_POLICY
from josh_pipeline.stages.policy import PolicyRow
from josh_pipeline.store.warehouse import Warehouse

KINDS: Mapping[str, GoalKind] = {"part": "parts", "whole": "whole"}
Side = Literal["before", "after"]
Outcomes = Mapping[tuple[str, int], tuple[float, bool]]
"""(goal id, trial) to (reward, success)."""


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
    made = [(one.policy, one.candidate) for one in line.refused]
    made += [(row, line.candidates[row.iteration]) for row in line.rows]
    scores = [
        _score(warehouse, line, one.policy, found, found["role"])
        for one in line.refused
        for found in warehouse.rows(
            "SELECT * FROM evaluations WHERE iteration = ? AND generation = ? AND side = 'after'",
            [one.policy.iteration, one.evaluation],
        )
    ]
    scores += [
        _score(warehouse, line, row, found, found["role"])
        for row in line.rows
        for found in warehouse.rows(
            "SELECT * FROM current_evaluations WHERE iteration = ? AND side = 'after'", [row.iteration]
        )
    ]
    played = {score.goals for score in scores}
    for found in warehouse.rows(
        "SELECT * FROM current_benchmarks WHERE list_contains(?, policy_digest) "
        "ORDER BY iteration, selection, n",
        [[candidate for _, candidate in made]],
    ):
        row = next(row for row, candidate in made if candidate == found["policy_digest"])
        role = found["selection"]
        if KINDS[found["goal_kind"]] in played and role in ("test", "val"):
            role = f"{role} ({_share_played(warehouse, row, found)})"
        scores.append(_score(warehouse, line, row, found, role))
    return sorted(
        scores,
        key=lambda s: (
            s.role.startswith("val"), s.goals not in played, s.role != "test", s.iteration, s.attempt,
        ),
    )  # fmt: skip


def _share_played(warehouse: Warehouse, row: PolicyRow, found: Mapping[str, Any]) -> str:
    """How much of a role a benchmark played: ``all``, or ``first 20`` where a number was asked for."""
    every = warehouse.rows(
        "SELECT count(*) AS n FROM current_goals "
        "WHERE scope = ? AND kind = ? AND role = ? AND excluded IS NULL",
        [row.goals_scope, found["goal_kind"], found["selection"]],
    )[0]["n"]
    return "all" if (found["corpus"], found["n"]) == (row.corpus, every) else f"first {found['n']}"


def _score(
    warehouse: Warehouse, line: Line, row: PolicyRow, found: Mapping[str, Any], role: str
) -> PolicyScore:
    """Read a row of ``evaluations`` or ``benchmarks``; its details hold a ``Score`` as JSON."""
    details = json.loads(found["details"])
    taken = None if row.is_baseline else _taken(warehouse, row.iteration, found["policy_digest"])
    superseded = found["policy_digest"] in {one.candidate for one in line.refused}
    return PolicyScore(
        iteration=int(row.iteration),
        attempt=row.attempt,
        superseded=superseded,
        policy=found["policy_digest"],
        name=line.name_of(found["policy_digest"]),
        # A benchmark may be on another corpus than the loop plays.
        corpus=found.get("corpus", row.corpus),
        goals=KINDS[found["goal_kind"]],
        role=role,
        n=found["n"],
        reward=found["mean_reward"],
        success=found["success_rate"],
        low=found["success_low"],
        high=found["success_high"],
        promoted=False if superseded else _promoted(warehouse, row, found["policy_digest"]),
        trees=taken["trees"] if taken else None,
        full_trees=taken["full"] if taken else None,
        rows=taken["rows"] if taken else None,
        by_domain=tuple(Breakdown(**share) for share in details["by_domain"]),
        by_tool=tuple(Breakdown(**share) for share in details["by_tool"]),
        # Scores of the first schema lack what has a default here.
        by_act=tuple(Breakdown(**share) for share in details.get("by_act", ())),
        errors=details["errors"],
        turns=details["turns"],
        error_turns=details["error_turns"],
        faulty_calls=details["faulty_calls"],
        faults=details.get("faults", {}),
        pass_k=tuple(details["pass_k"]),
    )


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
    before = [
        Decision(int(one.policy.iteration), line.name_of(one.candidate), False, one.reason)
        for one in line.refused
    ]
    standing = [
        Decision(int(row.iteration), line.name_of(found["policy_digest"]), found["promoted"], found["reason"])
        for row in line.rounds
        for found in warehouse.rows(
            "SELECT * FROM current_promotions WHERE iteration = ? AND policy_digest = ?",
            [row.iteration, line.candidates[row.iteration]],
        )
    ]
    return sorted(before + standing, key=lambda decision: decision.iteration)


def _taken(warehouse: Warehouse, iteration: str, candidate: str) -> dict[str, int]:
    """Count what a candidate was trained on, which is not what the iteration holds once it runs again."""
    return warehouse.rows(
        "WITH harvest AS (SELECT max(a.rows_generation) AS generation FROM adapter_rows a "
        "WHERE a.iteration = $key AND a.rows_iteration = $key AND a.policy_digest = $candidate), "
        "search AS (SELECT max(i.input_generation) AS generation FROM generation_inputs i, harvest "
        "WHERE i.stage = 'preferences' AND i.scope = $key AND i.generation = harvest.generation "
        "AND i.input_stage = 'rollouts' AND i.input_scope = $key), "
        "searched AS (SELECT t.reward FROM rollouts r JOIN search USING (generation) "
        "JOIN trees t USING (rollout_id) WHERE r.iteration = $key) "
        "SELECT (SELECT count(*) FROM searched) AS trees, "
        "(SELECT count(*) FROM searched WHERE reward = 1) AS full, "
        "(SELECT count(*) FROM preference_rows JOIN harvest USING (generation) "
        "WHERE iteration = $key) AS rows",
        {"key": iteration, "candidate": candidate},
    )[0]


def _promoted(warehouse: Warehouse, row: PolicyRow, candidate: str) -> bool | None:
    if row.is_baseline:
        return None
    found = warehouse.rows(
        "SELECT promoted FROM current_promotions WHERE iteration = ? AND policy_digest = ?",
        [row.iteration, candidate],
    )
    return bool(found[0]["promoted"]) if found else None


def line_comparisons(warehouse: Warehouse, line: Line, resamples: int) -> list[Comparison]:
    """Comparisons of each round with the policy before it, and of the last round with the base.

    Args:
        resamples: of the bootstrap of the latter, which the store does not hold.
    """
    found = [
        _stored(line, row, stored, outcomes(warehouse, row.iteration, "before", stored["role"]),
                outcomes(warehouse, row.iteration, "after", stored["role"]))
        for row in line.rounds
        for stored in warehouse.rows("SELECT * FROM current_comparisons WHERE iteration = ?", [row.iteration])
    ]  # fmt: skip
    if len(line.rounds) > 1:
        found += _overall(warehouse, line, resamples)
    return sorted(found, key=lambda c: (c.role == "val", c.metric == "reward"))


def outcomes(warehouse: Warehouse, iteration: str, side: Side, role: str) -> dict[tuple[str, int], Any]:
    """Rewards and successes of one evaluation; on the gate's goals those that the gate looks at."""
    return {
        (row["goal_id"], row["trial"]): (row["reward"], row["success"])
        for row in warehouse.rows(
            "SELECT goal_id, trial, reward, success FROM current_episodes "
            "WHERE iteration = ? AND side = ? AND role = ? "
            "AND (failure IS NULL OR NOT list_contains(?, failure))",
            [iteration, side, role, list(NOT_THE_POLICY) if role == GATE else []],
        )
    }


def _counts(before: Outcomes, after: Outcomes) -> dict[str, int]:
    """How goals changed hands."""
    pairs = [(before[key][1], after[key][1]) for key in before.keys() & after.keys()]
    return {
        "won": pairs.count((False, True)),
        "lost": pairs.count((True, False)),
        "both": pairs.count((True, True)),
        "neither": pairs.count((False, False)),
    }


def _stored(
    line: Line, row: PolicyRow, stored: Mapping[str, Any], before: Outcomes, after: Outcomes
) -> Comparison:
    return Comparison(
        iteration=int(row.iteration),
        before=line.name_of(row.policy_digest),
        after=line.name_of(line.candidates[row.iteration]),
        goals=KINDS[stored["goal_kind"]],
        role=stored["role"],
        metric=stored["metric"],
        n=stored["n"],
        mean_before=stored["before"],
        mean_after=stored["after"],
        difference=stored["difference"],
        low=stored["low"],
        high=stored["high"],
        **_counts(before, after),
    )


def _overall(warehouse: Warehouse, line: Line, resamples: int) -> list[Comparison]:
    """Hold the last round against the base; nothing where they were not evaluated on the same goals."""
    first, last = line.rows[0], line.rows[-1]
    before = outcomes(warehouse, first.iteration, "after", "test")
    after = outcomes(warehouse, last.iteration, "after", "test")
    if not before or before.keys() != after.keys():
        return []
    kind = warehouse.rows(
        "SELECT DISTINCT goal_kind FROM current_evaluations WHERE iteration = ?", [last.iteration]
    )[0]["goal_kind"]
    keys = sorted(before)
    metrics: Sequence[tuple[Metric, int]] = (("success", 1), ("reward", 0))
    found = []
    for metric, place in metrics:
        old, new = ([float(side[key][place]) for key in keys] for side in (before, after))
        change = paired_bootstrap(old, new, resamples)
        found.append(
            Comparison(
                iteration=int(last.iteration),
                before=line.name_of(line.candidates[first.iteration]),
                after=line.name_of(line.candidates[last.iteration]),
                goals=KINDS[kind],
                role="test",
                metric=metric,
                n=change.n,
                mean_before=sum(old) / len(old),
                mean_after=sum(new) / len(new),
                difference=change.diff,
                low=change.low,
                high=change.high,
                **_counts(before, after),
            )
        )
    return found
