"""Training goals that want exactly the calls of an evaluated goal: no leak, but such a goal can be solved by heart."""

import json
from collections import Counter
from collections.abc import Collection, Sequence

from josh_pipeline.core.content import canonical_json
from josh_pipeline.core.words import number_of
from josh_pipeline.stages.stage import Verdict
from josh_pipeline.store.warehouse import Warehouse


def calls_alike(warehouse: Warehouse, scope: str, harvested: Sequence[str], evaluated: Collection[str]) -> Verdict:
    """Count rows whose goal wants exactly the calls of a goal that is evaluated.

    Args:
        scope: of the goals.
        harvested: the goal of each row.
        evaluated: ids of goals.
    """
    known = warehouse.query("SELECT goal_id, calls FROM current_goals WHERE scope = ?", [scope])
    calls = {goal: wanted(text) for goal, text in known.iter_rows()}
    tested = {calls[goal] for goal in evaluated if goal in calls} - {wanted("[]")}
    counts = Counter(harvested)
    alike = sum(number for goal, number in counts.items() if calls.get(goal) in tested)
    learnt = {calls[goal] for goal in counts if goal in calls} & tested
    return Verdict(
        not alike,
        f"{alike} of {number_of(len(harvested), 'row')} come from goals that want exactly the calls of an evaluated "
        f"goal; {len(learnt)} of {number_of(len(tested), 'evaluated set')} of calls were learnt from.",
        {
            "rows": len(harvested),
            "rows with evaluated calls": alike,
            "evaluated sets of calls": len(tested),
            "of them learnt from": len(learnt),
        },
    )


def wanted(calls: str) -> str:
    """Return the wanted calls of a goal as text, whatever their order."""
    return canonical_json(sorted(canonical_json([call["tool"], call["parameters"]]) for call in json.loads(calls)))
