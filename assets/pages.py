"""What Dagster's UI shows of a step: tables, figures, and links to pages of trees and rows."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg
from matplotlib.figure import Figure

from josh_pipeline.report.data import TrainingCurve
from josh_pipeline.report.export_model import export_command
from josh_pipeline.report.figures import (
    drift_by_policy,
    harvest_yield,
    paired_differences,
    png,
    success_by_iteration,
    training_curves,
)
from josh_pipeline.report.lines import line_of_iteration
from josh_pipeline.report.load import harvest_of, played_ceiling
from josh_pipeline.report.load_scores import line_changes, line_drifts, line_scores
from josh_pipeline.report.words import shortened
from josh_pipeline.stages.stage import Check, Step, Verdict

SAMPLE_ROWS = 5
SAMPLE_WIDTH = 160


def figure(drawn: Figure, dpi: int = 90) -> dg.MarkdownMetadataValue:
    """Return a figure that the UI shows inline: it needs no server and no file."""
    data = base64.b64encode(png(drawn, dpi)).decode()
    return dg.MetadataValue.md(f"![figure](data:image/png;base64,{data})")


def table(rows: Sequence[Mapping[str, Any]]) -> dg.TableMetadataValue:
    """Return rows of equal keys as a table; it must not be empty."""
    records = [dg.TableRecord({name: cell(value) for name, value in row.items()}) for row in rows]
    return dg.MetadataValue.table(records)


def cell(value: Any) -> str | int | float | bool:
    """Return a value as a table can hold it; numbers with three decimals."""
    if isinstance(value, bool | int | str):
        return value
    return round(value, 3) if isinstance(value, float) else "" if value is None else str(value)


def linked(value: Any) -> Any:
    """Return a fact as the UI shows it: an address as a link."""
    is_address = isinstance(value, str) and value.startswith(("http://", "https://"))
    return dg.MetadataValue.url(value) if is_address else value


def sample(step: Step, sql: str, parameters: Sequence[Any]) -> dict[str, Any]:
    """Return the first rows of a query as metadata, long texts cut; nothing where there is no row."""
    rows = step.warehouse.rows(f"{sql} LIMIT {SAMPLE_ROWS}", parameters)
    cut = [
        {name: shortened(value, SAMPLE_WIDTH) if isinstance(value, str) else value for name, value in row.items()}
        for row in rows
    ]
    return {"sample": table(cut)} if cut else {}


def judged(check: Check, verdict: Verdict) -> dg.AssetCheckResult:
    """Return a verdict as the result of a check."""
    return dg.AssetCheckResult(
        check_name=check.name,
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity.ERROR if check.blocking else dg.AssetCheckSeverity.WARN,
        description=verdict.sentence,
        metadata={
            name: table(value) if isinstance(value, list) and value and isinstance(value[0], dict) else value
            for name, value in verdict.numbers.items()
        },
    )


PAGES = "/josh"
"""Where ``josh ui`` serves this project's pages, beside Dagster's own: links need no host and no port."""
SHOWN = 12
TEXT_WIDTH = 90

LINKED = (
    "SELECT t.rollout_id, t.reward, t.rounds, t.failure, count(*) AS nodes, "
    "any_value(g.message ->> '$[0]') AS wish FROM current_trees t "
    "JOIN current_nodes n USING (iteration, rollout_id) "
    "JOIN current_policies p ON p.iteration = t.iteration "
    "LEFT JOIN current_goals g ON g.scope = p.goals_scope AND g.goal_id = t.goal_id "
    "WHERE t.iteration = ? GROUP BY t.rollout_id, t.reward, t.rounds, t.failure "
    "ORDER BY t.reward DESC, any_value(json_array_length(t.earned)) DESC, nodes DESC, t.rollout_id"
)


def tree_links(step: Step, iteration: str) -> dict[str, Any]:
    """Return the most telling tree as a link, and a list of trees with the best and the worst.

    Nothing where the iteration has no tree.
    """
    found = step.warehouse.rows(LINKED, [iteration])
    if not found:
        return {}
    rows = [
        {
            "tree": tree_link(row["rollout_id"]),
            "reward": f"{row['reward']:.2f}",
            "nodes": str(row["nodes"]),
            "rounds": str(row["rounds"]),
            "failed": row["failure"] or "",
            "the user wants": plain(row["wish"] or ""),
        }
        for row in found
    ]
    return {
        "a telling tree": dg.MetadataValue.url(tree_address(found[0]["rollout_id"])),
        "trees": both_ends(rows, "trees: the best, then the worst"),
    }


def row_links(step: Step, iteration: str) -> dict[str, Any]:
    """Return a list of training rows, each with its page and its tree; nothing where there is no row."""
    found = step.warehouse.rows(
        "SELECT row_id, rollout_id, label, sides FROM current_preference_rows "
        "WHERE iteration = ? ORDER BY label, position",
        [iteration],
    )
    rows = [
        {
            "row": f"[{row['row_id']}]({PAGES}/rows/{row['row_id']}.html)",
            "label": row["label"],
            "tree": tree_link(row["rollout_id"]),
            "learnt from": plain(row["sides"]),
        }
        for row in found
    ]
    what = "rows, each with its page and the tree that it came from"
    return {"rows to look at": both_ends(rows, what)} if rows else {}


def harvest_pages(step: Step, iteration: str) -> dict[str, Any]:
    """Draw what the trees gave, and link to rows."""
    yields = harvest_of(step.warehouse, iteration, f"iteration {iteration}", "current")
    return {"harvest": figure(harvest_yield([yields])), **row_links(step, iteration)}


def evaluation_pages(step: Step, iteration: str) -> dict[str, Any]:
    """Draw the line of iterations up to this one, on test goals."""
    line = line_of_iteration(step.warehouse, iteration)
    # Kinds of goals are never in one figure, nor what another attempt has replaced.
    kind = step.warehouse.rows("SELECT goal_kind FROM current_evaluations WHERE iteration = ? LIMIT 1", [iteration])[0][
        "goal_kind"
    ]
    scores = [
        one
        for one in line_scores(step.warehouse, line)
        if (one.role, one.goals.name) == ("test", kind) and not one.superseded
    ]
    ceiling = played_ceiling(step.warehouse, line.rows[-1], step.settings)
    resamples = step.settings.evaluation.bootstrap
    compared = [one for one in line_changes(step.warehouse, line, resamples) if one.role == "test"]
    drifts = line_drifts(step.warehouse, line)
    found = {**report_link(step, iteration), "success by iteration": figure(success_by_iteration(scores, ceiling))}
    if compared:
        found["differences"] = figure(paired_differences(compared))
    if any(one.drift for one in drifts):
        found["drift by iteration"] = figure(drift_by_policy(drifts))
    return found


def report_link(step: Step, iteration: str) -> dict[str, Any]:
    """Link to the report up to an iteration."""
    return {"report": dg.MetadataValue.url(f"{PAGES}/report-{iteration}.html")}


def promotion_pages(step: Step, iteration: str) -> dict[str, Any]:
    """Link to the report, and say the command that exports what was promoted, where something was trained."""
    row = step.warehouse.rows("SELECT * FROM current_promotions WHERE iteration = ?", [iteration])[0]
    if not row["promoted"] or row["adapter_digest"] is None:
        return report_link(step, iteration)
    return report_link(step, iteration) | {"export the model": export_command(step.home, row["policy_digest"])}


def curve_page(table: str, column: str, name: str) -> Callable[[Step, str], dict[str, Any]]:
    """Return what draws a training curve out of a table."""

    def drawn(step: Step, scope: str) -> dict[str, Any]:
        rows = step.warehouse.rows(f"SELECT step, point FROM {table} WHERE {column} = ? ORDER BY step", [scope])
        points = [(row["step"], json.loads(row["point"]).get("loss")) for row in rows]
        losses = tuple((place, float(loss)) for place, loss in points if loss is not None)
        return {"training": figure(training_curves([TrainingCurve(name, name, losses)]))} if losses else {}

    return drawn


PAGES_OF: Mapping[str, Callable[[Step, str], dict[str, Any]]] = {
    "cold_start": curve_page("current_cold_start_curves", "scope", "cold start"),
    "rollouts": tree_links,
    "preferences": harvest_pages,
    "adapter": curve_page("current_training_curves", "iteration", "training"),
    "evaluation": evaluation_pages,
    "promotion": promotion_pages,
}
"""Stage to what its asset shows beside its own words."""


def tree_address(rollout: str) -> str:
    """Return the address of a tree's page, relative to the UI."""
    return f"{PAGES}/trees/{rollout}.html"


def tree_link(rollout: str) -> str:
    """Return a link to a tree's page, in Markdown."""
    return f"[{rollout}]({tree_address(rollout)})"


def both_ends(rows: list[dict[str, str]], what: str) -> dg.MarkdownMetadataValue:
    """Return the first and the last rows, ``SHOWN`` at most, as a table under the words that say what they are."""
    half = SHOWN // 2
    chosen = rows if len(rows) <= SHOWN else rows[:half] + rows[-half:]
    lines = [chosen[0].keys(), ["---"] * len(chosen[0]), *(row.values() for row in chosen)]
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return dg.MetadataValue.md(f"{len(chosen)} of {len(rows)} {what}\n\n{text}")


def plain(text: str) -> str:
    """Return a text that a cell of a Markdown table shows as it is."""
    for mark, other in (("|", "/"), ("<", "‹"), ("[", "("), ("]", ")"), ("`", "'"), ("*", "·")):
        text = text.replace(mark, other)
    return shortened(text, TEXT_WIDTH)
