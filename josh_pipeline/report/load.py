"""A report's data out of the store."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

from josh_pipeline.core.environment import Carelessness, Task
from josh_pipeline.core.errors import UserError
from josh_pipeline.dialogue.demonstrations import Ceiling
from josh_pipeline.report.data import (
    CorpusFacts,
    Example,
    HarvestYield,
    InjectedFaults,
    Played,
    ReportData,
    TrainingCurve,
)
from josh_pipeline.report.lines import Line, line_of_iteration
from josh_pipeline.report.load_costs import line_costs
from josh_pipeline.report.load_failures import lost_goals
from josh_pipeline.report.load_scores import line_changes, line_decisions, line_drifts, line_scores, outcomes
from josh_pipeline.report.tree import NODE_LABEL, load_drawn_tree, telling_tree
from josh_pipeline.search.shape import Shape, shape_of
from josh_pipeline.settings import EvaluationSettings, Settings
from josh_pipeline.stages.alike import calls_alike
from josh_pipeline.stages.environment import stored_environment, stored_tasks
from josh_pipeline.stages.goals import ceiling_on
from josh_pipeline.stages.playing import stored_episodes
from josh_pipeline.stages.policy import PolicyRow
from josh_pipeline.stages.rollouts import trees_of
from josh_pipeline.stages.stage import recorded_run, recorded_settings
from josh_pipeline.stages.unused import unused
from josh_pipeline.store.warehouse import Generation, Warehouse

PLURALS = {"golden conversation": "golden conversations", "pair": "pairs"}
"""Labels of rows that have one."""


def load_report(warehouse: Warehouse, iteration: str | None = None) -> ReportData:
    """Read everything that a report shows.

    Args:
        iteration: partition key of the last round to be told of; None for the last one evaluated.

    Raises:
        UserError: nothing has been evaluated, or not that iteration.
    """
    line = line_of_iteration(warehouse, iteration)
    last = line.rows[-1]
    run = recorded_run(warehouse, "evaluation", last.iteration)
    settings, unread = _readable(run)
    resamples = (settings.evaluation if settings else EvaluationSettings()).bootstrap
    rollout = telling_tree(warehouse, last.iteration)
    tree = load_drawn_tree(warehouse, rollout) if rollout else None
    corpus = warehouse.rows(
        "SELECT name, source, licence, corpus_digest, sources FROM current_corpora WHERE scope = ?", [last.corpus_scope]
    )[0]
    return ReportData(
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
        profile=run["profile"],
        seed=run["seed"],
        model=last.model,
        corpus=CorpusFacts(**corpus),
        injected=_injected(warehouse, last, settings) if settings else None,
        ceiling=played_ceiling(warehouse, last, settings) if settings else None,
        unread=unread,
        unused=tuple(sentence for row in line.rounds for sentence in unused(warehouse, row.iteration)),
        scores=tuple(line_scores(warehouse, line)),
        lost=tuple(lost_goals(warehouse, line, one, settings) for one in line.attempts) if settings else (),
        changes=tuple(line_changes(warehouse, line, resamples)),
        decisions=tuple(line_decisions(warehouse, line)),
        drifts=tuple(line_drifts(warehouse, line)),
        curves=_curves(warehouse, line),
        harvests=tuple(line_harvests(warehouse, line)),
        costs=tuple(line_costs(warehouse, line)),
        examples=tuple(line_examples(warehouse, line)),
        tree=tree,
        settings=json.loads(run["settings"]),
        versions=json.loads(run["packages"]),
        git_commit=run["git_commit"],
    )


def standing_ceiling(warehouse: Warehouse) -> tuple[Ceiling | None, str | None]:
    """Return the user ceiling of the goals that the last evaluation played; None where there is none.

    Returns:
        With it, why it is not known where the settings of that evaluation cannot be read.

    Raises:
        UserError: nothing has been evaluated.
    """
    last = line_of_iteration(warehouse).rows[-1]
    settings, unread = _readable(recorded_run(warehouse, "evaluation", last.iteration))
    return played_ceiling(warehouse, last, settings) if settings else None, unread


def _readable(run: Mapping[str, Any]) -> tuple[Settings | None, str | None]:
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
        "SELECT count(*) AS conversations, avg((reward = 1)::INT) AS full_reward "
        "FROM current_demonstrations WHERE scope = ?",
        [row.base_scope],
    )[0]
    start = settings.cold_start
    careless = Carelessness(start.claimed_bookings, start.dropped_constraints, start.false_no_match)
    return InjectedFaults(careless=careless, **found) if found["conversations"] else None


def played_ceiling(warehouse: Warehouse, row: PolicyRow, settings: Settings) -> Ceiling | None:
    """Let a perfect agent play the test goals of an iteration's evaluation; None where there is none."""
    ids = sorted({goal for goal, _ in outcomes(warehouse, row.iteration, "after", "test")})
    environment = stored_environment(warehouse, settings.environment, row.corpus_scope, sources=False)
    goals = stored_tasks(warehouse, row.goals_scope, of=environment.Task, ids=ids)
    return ceiling_on(environment, goals, settings)


def _curves(warehouse: Warehouse, line: Line) -> tuple[TrainingCurve, ...]:
    """The losses of the cold start and of every round; what recorded none is left out."""
    points = "SELECT step, point FROM {} WHERE {} = ? ORDER BY step"
    first = line.rows[0]
    start = warehouse.rows(points.format("current_cold_start_curves", "scope"), [first.base_scope])
    curves = [(first.policy_digest, "sft", start)]
    for row in line.rounds:
        found = warehouse.rows(points.format("standing_training_curves", "iteration"), [row.iteration])
        trained = warehouse.rows("SELECT method FROM standing_trainings WHERE iteration = ?", [row.iteration])
        curves.append((line.candidates[row.iteration], trained[0]["method"] if trained else "", found))
    drawn = []
    for policy, method, found in curves:
        losses = ((row["step"], json.loads(row["point"]).get("loss")) for row in found)
        known = tuple((step, float(loss)) for step, loss in losses if loss is not None)
        drawn.append(TrainingCurve(line.name_of(policy), method, known))
    return tuple(curve for curve in drawn if curve.points)


def line_harvests(warehouse: Warehouse, line: Line) -> list[HarvestYield]:
    """What each round's adapter was trained on, and how much of that wants what is evaluated."""
    found = []
    for row in line.rounds:
        harvested = warehouse.query("SELECT goal_id FROM standing_preference_rows WHERE iteration = ?", [row.iteration])
        evaluated = warehouse.query(
            "SELECT DISTINCT e.goal_id FROM standing_evaluation_episodes m JOIN episodes e USING (episode_id) "
            "WHERE m.iteration = ?",
            [row.iteration],
        )
        alike = calls_alike(warehouse, row.goals_scope, list(harvested["goal_id"]), list(evaluated["goal_id"]))
        told = alike.sentence if alike.numbers["evaluated sets of calls"] else None
        shape = _shape(warehouse, line, row)
        found.append(replace(harvest_of(warehouse, row.iteration, line.round_of(row)), alike=told, shape=shape))
    return found


def _shape(warehouse: Warehouse, line: Line, row: PolicyRow) -> Shape:
    """What the trees look like that a round's adapter was trained on."""
    number = warehouse.rows(
        "SELECT generation FROM standing_generations WHERE stage = 'rollouts' AND scope = ?", [row.iteration]
    )[0]["generation"]
    trees = trees_of(warehouse, Generation("rollouts", row.iteration, number))
    ids = [tree.goal_id for tree in trees]
    task = line.environment.Task if line.environment else Task
    return shape_of(trees, {goal.goal_id: goal for goal in stored_tasks(warehouse, row.goals_scope, of=task, ids=ids)})


def harvest_of(
    warehouse: Warehouse, iteration: str, name: str, which: Literal["standing", "current"] = "standing"
) -> HarvestYield:
    """Count an iteration's trees by reward, and its rows by label and round.

    Args:
        name: of the iteration, for people.
        which: what its adapter was trained on, or what was harvested last.
    """
    trees = warehouse.rows(
        "SELECT count(*) AS trees, count(*) FILTER (failure IS NOT NULL) AS failed, "
        "count(*) FILTER (failure IS NULL AND reward = 1) AS full, "
        'count(*) FILTER (failure IS NULL AND reward = 0) AS none, trees - failed - "full" - none AS partial '
        f"FROM {which}_trees WHERE iteration = ?",
        [iteration],
    )[0]
    rows = warehouse.rows(
        f"SELECT method, label, count(*) AS n FROM {which}_preference_rows WHERE iteration = ? "
        "GROUP BY ALL ORDER BY method, label",
        [iteration],
    )
    by_round: dict[int, list[int]] = {}
    for row in warehouse.rows(
        f"SELECT d.round, {NODE_LABEL} = 'undesirable' AS bad, count(DISTINCT d.node_id) AS n "
        f"FROM {which}_row_nodes n JOIN {which}_preference_rows r USING (iteration, row_id) "
        "JOIN nodes d ON d.node_id = n.node_id AND d.rollout_id = n.rollout_id "
        "WHERE n.iteration = ? AND d.round > 0 GROUP BY ALL ORDER BY d.round",
        [iteration],
    ):
        by_round.setdefault(row["round"], [0, 0])[row["bad"]] += row["n"]
    return HarvestYield(
        iteration=int(iteration),
        name=name,
        rows={f"{row['method'].upper()} {PLURALS.get(row['label'], row['label'])}": row["n"] for row in rows},
        by_round={round_: (good, bad) for round_, (good, bad) in by_round.items()},
        **trees,
    )


def line_examples(warehouse: Warehouse, line: Line) -> list[Example]:
    """Of each round one goal that it won and one that it lost, the last round first.

    They are the first by goal id, not hand-picked.
    """
    examples = []
    for row in reversed(line.rounds):
        before = outcomes(warehouse, row.iteration, "before", "test")
        after = outcomes(warehouse, row.iteration, "after", "test")
        both = sorted(before.keys() & after.keys())
        for kind, change in (("won", (False, True)), ("lost", (True, False))):
            changed = next((key for key in both if (before[key][1], after[key][1]) == change), None)
            if changed is not None:
                examples.append(_example(warehouse, line, row, kind, *changed))
    return examples


def _example(warehouse: Warehouse, line: Line, row: PolicyRow, kind: Any, goal_id: str, trial: int) -> Example:
    goal = stored_tasks(warehouse, row.goals_scope, ids=[goal_id])[0]
    found = warehouse.rows(
        "SELECT side, episode_id FROM current_episodes WHERE iteration = ? AND role = 'test' "
        "AND goal_id = ? AND trial = ?",
        [row.iteration, goal_id, trial],
    )
    sides = {}
    for one in found:
        episode = stored_episodes(warehouse, [one["episode_id"]])[0]
        name = line.name_of(episode.policy_digest)
        sides[one["side"]] = Played(name, episode.messages, episode.reward, episode.earned)
    return Example(int(row.iteration), kind, goal, **sides)
