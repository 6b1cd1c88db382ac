"""A report's data out of the store."""

import json
from datetime import UTC, datetime
from typing import Any

from josh_pipeline.core.errors import UserError
from josh_pipeline.report.data import (
    Ceiling,
    CorpusFacts,
    HarvestYield,
    InjectedFaults,
    ReportData,
    TrainingCurve,
)
from josh_pipeline.report.lines import Line, line_of_iteration
from josh_pipeline.report.load_costs import line_costs
from josh_pipeline.report.load_examples import line_examples
from josh_pipeline.report.load_scores import (
    line_comparisons,
    line_decisions,
    line_drifts,
    line_scores,
    outcomes,
)
from josh_pipeline.report.load_tree import UNDESIRABLE, label, load_drawn_tree, telling_tree
from josh_pipeline.settings import EvaluationSettings, Settings
from josh_pipeline.stages.ceiling import ceiling_on
from josh_pipeline.stages.goals import stored_goals
from josh_pipeline.stages.policy import PolicyRow
from josh_pipeline.stages.recorded import recorded_run, recorded_settings
from josh_pipeline.store.warehouse import Warehouse

ROW_KINDS = {
    ("sft", True): "SFT conversations",
    ("kto", True): "KTO desirable",
    ("kto", False): "KTO undesirable",
    ("dpo", True): "DPO pairs",
}


def load_report(
    warehouse: Warehouse, iteration: str | None = None, tree_folder: str | None = None
) -> ReportData:
    """Read everything that a report shows.

    Args:
        iteration: partition key of the last round to be told of; None for the last one evaluated.
        tree_folder: where the page of the drawn tree lies, relative to the report, as
            ``<rollout id>.html``; None where there is none.

    Raises:
        UserError: nothing has been evaluated, or not that iteration.
    """
    line = line_of_iteration(warehouse, iteration)
    last = line.rows[-1]
    run = recorded_run(warehouse, "evaluation", last.iteration)
    settings, unread = _readable(run)
    corpus = warehouse.rows("SELECT * FROM current_corpora WHERE scope = ?", [last.corpus_scope])[0]
    resamples = (settings.evaluation if settings else EvaluationSettings()).bootstrap
    rollout = telling_tree(warehouse, last.iteration)
    tree = load_drawn_tree(warehouse, rollout) if rollout else None
    return ReportData(
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        profile=run["profile"],
        seed=run["seed"],
        model=last.model,
        corpus=CorpusFacts(
            corpus["name"], corpus["source"], corpus["licence"], corpus["corpus_digest"], corpus["dialogues"]
        ),
        injected=_injected(warehouse, last, settings) if settings else None,
        ceiling=played_ceiling(warehouse, last, settings) if settings else None,
        unread=unread,
        scores=tuple(line_scores(warehouse, line)),
        comparisons=tuple(line_comparisons(warehouse, line, resamples)),
        decisions=tuple(line_decisions(warehouse, line)),
        drifts=tuple(line_drifts(warehouse, line)),
        curves=_curves(warehouse, line),
        harvests=tuple(harvest_of(warehouse, row.iteration, line.round_of(row)) for row in line.rounds),
        costs=tuple(line_costs(warehouse, line)),
        examples=tuple(line_examples(warehouse, line)),
        tree=tree,
        tree_link=f"{tree_folder}/{tree.tree.rollout_id}.html" if tree and tree_folder else None,
        settings=json.loads(run["settings"]),
        versions=json.loads(run["packages"]),
        git_commit=run["git_commit"],
    )


def standing_ceiling(warehouse: Warehouse) -> tuple[Ceiling | None, str | None]:
    """Return the user ceiling of the goals that the last evaluation played; None without an agenda user.

    Returns:
        With it, why it is not known where the settings of that evaluation cannot be read.

    Raises:
        UserError: nothing has been evaluated.
    """
    last = line_of_iteration(warehouse).rows[-1]
    settings, unread = _readable(recorded_run(warehouse, "evaluation", last.iteration))
    return played_ceiling(warehouse, last, settings) if settings else None, unread


def _readable(run: dict[str, Any]) -> tuple[Settings | None, str | None]:
    """Return the settings of a run; None, and why, where this release cannot read them.

    What was measured stands in the store all the same, so a report does without them.
    """
    try:
        return recorded_settings(run), None
    except UserError as fault:
        return None, str(fault)


def _injected(warehouse: Warehouse, row: PolicyRow, settings: Settings) -> InjectedFaults | None:
    """Describe the demonstrations of the base; None where it has none."""
    found = warehouse.rows(
        "SELECT count(*) AS n, avg(reward) AS reward, avg((reward = 1)::INT) AS full_reward "
        "FROM current_demonstrations WHERE scope = ?",
        [row.base_scope],
    )[0]
    if not found["n"]:
        return None
    start = settings.cold_start
    return InjectedFaults(
        conversations=found["n"],
        claimed_bookings=start.claimed_bookings,
        dropped_constraints=start.dropped_constraints,
        false_no_match=start.false_no_match,
        reward=found["reward"],
        full_reward=found["full_reward"],
    )


def played_ceiling(warehouse: Warehouse, row: PolicyRow, settings: Settings) -> Ceiling | None:
    """What a perfect agent reaches on the test goals of an iteration's evaluation; agenda users only."""
    ids = sorted({goal for goal, _ in outcomes(warehouse, row.iteration, "after", "test")})
    goals = stored_goals(warehouse, row.goals_scope, ids=ids)
    found = ceiling_on(warehouse, row.corpus_scope, goals, settings)
    return Ceiling(found.n, found.share) if found else None


def _curves(warehouse: Warehouse, line: Line) -> tuple[TrainingCurve, ...]:
    curves = [
        _curve(
            line.name_of(line.rows[0].policy_digest),
            "sft",
            warehouse.rows(
                "SELECT step, point FROM current_cold_start_curves WHERE scope = ? ORDER BY step",
                [line.rows[0].base_scope],
            ),
        )
    ]
    for row in line.rounds:
        points = warehouse.rows(
            "SELECT step, point FROM current_training_curves WHERE iteration = ? ORDER BY step",
            [row.iteration],
        )
        method = warehouse.rows("SELECT method FROM current_trainings WHERE iteration = ?", [row.iteration])
        name = line.name_of(line.candidates[row.iteration])
        curves.append(_curve(name, method[0]["method"] if method else "", points))
    return tuple(curve for curve in curves if curve.points)


def _curve(name: str, method: str, rows: list[dict[str, Any]]) -> TrainingCurve:
    points = [(row["step"], json.loads(row["point"]).get("loss")) for row in rows]
    return TrainingCurve(
        name, method, tuple((step, float(loss)) for step, loss in points if loss is not None)
    )


def harvest_of(warehouse: Warehouse, iteration: str, name: str | None = None) -> HarvestYield:
    """Count an iteration's trees by reward, and its rows by kind and round.

    Args:
        name: of the iteration in its line; None for its key.
    """
    trees = warehouse.rows(
        "SELECT count(*) AS trees, count(*) FILTER (failure IS NOT NULL) AS failed, "
        "count(*) FILTER (failure IS NULL AND reward = 1) AS full, "
        "count(*) FILTER (failure IS NULL AND reward = 0) AS none FROM current_trees WHERE iteration = ?",
        [iteration],
    )[0]
    kinds = warehouse.rows(
        "SELECT method, desirable, count(*) AS n FROM current_preference_rows WHERE iteration = ? "
        "GROUP BY ALL ORDER BY method, desirable DESC",
        [iteration],
    )
    by_round: dict[int, list[int]] = {}
    for row in warehouse.rows(
        "SELECT n.round, l.part, r.method, r.desirable, count(DISTINCT n.node_id) AS n "
        "FROM current_row_nodes l JOIN current_preference_rows r USING (iteration, row_id) "
        "JOIN nodes n ON n.node_id = l.node_id AND n.rollout_id = l.rollout_id "
        "WHERE l.iteration = ? AND n.round > 0 GROUP BY ALL ORDER BY n.round",
        [iteration],
    ):
        bad = label(row["method"], row["part"], row["desirable"]) == UNDESIRABLE
        by_round.setdefault(row["round"], [0, 0])[bad] += row["n"]
    return HarvestYield(
        iteration=int(iteration),
        name=name or f"iteration {iteration}",
        trees=trees["trees"],
        full=trees["full"],
        partial=trees["trees"] - trees["full"] - trees["none"] - trees["failed"],
        none=trees["none"],
        failed=trees["failed"],
        rows={ROW_KINDS[row["method"], row["desirable"]]: row["n"] for row in kinds},
        by_round={round_: (good, bad) for round_, (good, bad) in by_round.items()},
    )
