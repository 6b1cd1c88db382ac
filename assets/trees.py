"""Links from the UI to the pages of search trees."""

from typing import Any

import dagster as dg

from josh_pipeline.report.load_tree import telling_tree
from josh_pipeline.report.words import shortened
from josh_pipeline.stages.step import Step

PAGES = "/josh"
"""Where ``josh ui`` serves this project's pages, beside Dagster's own: links need no host and no port."""
SHOWN_TREES = 12
GOAL_WIDTH = 90

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
    half = SHOWN_TREES // 2
    chosen = rows if len(rows) <= SHOWN_TREES else rows[:half] + rows[-half:]
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


def plain(text: str) -> str:
    """Return a text that a cell of a Markdown table shows as it is."""
    return shortened(text, GOAL_WIDTH).replace("|", "/").replace("<", "‹").replace("[", "(")
