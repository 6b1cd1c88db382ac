"""Links from the UI to the pages of search trees and of training rows."""

from typing import Any

import dagster as dg

from josh_pipeline.report.load_tree import telling_tree
from josh_pipeline.report.words import shortened
from josh_pipeline.stages.step import Step

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
    "ORDER BY t.reward DESC, nodes DESC, t.rollout_id"
)


def tree_address(rollout: str) -> str:
    """Return the address of a tree's page, relative to the UI."""
    return f"{PAGES}/trees/{rollout}.html"


def tree_links(step: Step, iteration: str) -> dict[str, Any]:
    """Return the most telling tree as a link, and a list of trees with the best and the worst.

    Nothing where the iteration has no tree.
    """
    rollout = telling_tree(step.warehouse, iteration)
    if rollout is None:
        return {}
    rows = step.warehouse.rows(LINKED, [iteration])
    chosen = both_ends(rows)
    head = "| tree | reward | nodes | rounds | failed | the user wants |\n|---|---|---|---|---|---|\n"
    lines = [
        f"| [{row['rollout_id']}]({tree_address(row['rollout_id'])}) | {row['reward']:.2f} | {row['nodes']} "
        f"| {row['rounds']} | {row['failure'] or ''} | {plain(row['wish'] or '')} |"
        for row in chosen
    ]
    title = f"{len(chosen)} of {len(rows)} trees: the best, then the worst"
    return {
        "a telling tree": dg.MetadataValue.url(tree_address(rollout)),
        "trees": dg.MetadataValue.md(f"{title}\n\n{head}" + "\n".join(lines)),
    }


def row_links(step: Step, iteration: str) -> dict[str, Any]:
    """Return a list of training rows, each with its page and its tree; nothing where there is no row."""
    rows = step.warehouse.rows(
        "SELECT row_id, rollout_id, method, desirable, completion FROM current_preference_rows "
        "WHERE iteration = ? ORDER BY desirable, position",
        [iteration],
    )
    if not rows:
        return {}
    chosen = both_ends(rows)
    head = "| row | label | tree | learnt from |\n|---|---|---|---|\n"
    lines = [
        f"| [{row['row_id']}]({PAGES}/rows/{row['row_id']}.html) | {label(row['method'], row['desirable'])} "
        f"| [{row['rollout_id']}]({tree_address(row['rollout_id'])}) | {plain(row['completion'])} |"
        for row in chosen
    ]
    title = f"{len(chosen)} of {len(rows)} rows, each with its page and the tree that it came from"
    return {"rows to look at": dg.MetadataValue.md(f"{title}\n\n{head}" + "\n".join(lines))}


def both_ends(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the first and the last rows, ``SHOWN`` at most."""
    half = SHOWN // 2
    return rows if len(rows) <= SHOWN else rows[:half] + rows[-half:]


def label(method: str, desirable: bool) -> str:
    """Name the label of a row for people."""
    if method != "kto":
        return {"sft": "golden conversation", "dpo": "pair"}[method]
    return "desirable" if desirable else "undesirable"


def plain(text: str) -> str:
    """Return a text that a cell of a Markdown table shows as it is."""
    for mark, other in (("|", "/"), ("<", "‹"), ("[", "("), ("]", ")"), ("`", "'"), ("*", "·")):
        text = text.replace(mark, other)
    return shortened(text, TEXT_WIDTH)
