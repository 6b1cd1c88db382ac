"""Which row a search serves. One rule for both semantics: the paper's order (spec: repair (e), none).

One row is chosen against the goal, so that an incomplete query can be answered wrongly: a good
agent asks for what is missing before it searches.
"""

from collections.abc import Mapping
from typing import Any

from josh_pipeline.environments.toolwoz.databases import Rows
from josh_pipeline.environments.toolwoz.quest import Quest
from josh_pipeline.environments.toolwoz.values import contains


def serve(quest: Quest | None, served: Mapping[str, Any], found: Rows) -> Rows:
    """Choose among the rows that a query found.

    Args:
        quest: the goal's share in the searched domain, None where the goal does not search there.
        served: the call's arguments, as serving compares them.
        found: the rows that the query found.

    Returns:
        A set whose *last* row is served; empty where nothing is.
    """
    if not found:
        return 0
    first = found & -found
    if quest is None or quest.search is None:
        return first
    distractors = found & ~quest.right
    if contains(served, quest.wanted):
        return first if quest.booking is None else (found & quest.target) or distractors
    if contains(quest.wanted, served):
        return distractors or (found & quest.target) or first
    return first
