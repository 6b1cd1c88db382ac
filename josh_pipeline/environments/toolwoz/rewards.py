"""Which ground-truth call a tool call earns."""

from collections.abc import Mapping
from typing import Any

from josh_pipeline.environments.toolwoz.quest import Quest
from josh_pipeline.environments.toolwoz.values import contains


def earned_by_booking(quest: Quest, rewarded: Mapping[str, Any]) -> bool:
    """Tell whether a ``book_*`` call earns the goal's booking: its arguments contain the goal's.

    What the call returned does not matter.
    """
    return quest.booking is not None and contains(rewarded, quest.booked)


def earned_by_search(
    quest: Quest, rewarded: Mapping[str, Any], is_target: bool, is_right: bool, with_booking: bool
) -> bool:
    """Tell whether a ``search_*`` call that returned a row earns the goal's search.

    Args:
        quest: the goal's share in the searched domain.
        rewarded: the call's arguments, as the reward compares them.
        is_target: the returned row has the target's id.
        is_right: the returned row is right for the goal's search.
        with_booking: the search is judged by the booking's target. Without, a query that asks for
            everything earns whatever it returns, and one that asks for less earns with a right row.
    """
    if quest.search is None:
        return False
    complete = contains(rewarded, quest.wanted)
    if not complete and not contains(quest.wanted, rewarded):
        return False
    return is_target if with_booking else complete or is_right
