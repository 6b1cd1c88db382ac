"""What was made anew in an iteration and is used by nothing yet: rows that no adapter saw, an unmeasured adapter."""

from josh_pipeline.stages.policy import policy_behind
from josh_pipeline.store.warehouse import Generation, Warehouse

REPLACED = (
    "SELECT i.stage, n.generation AS newer, o.generation AS older FROM generation_inputs i "
    "JOIN generations o ON o.stage = i.input_stage AND o.scope = i.input_scope AND o.generation = i.input_generation "
    "JOIN generations n ON n.stage = i.input_stage AND n.scope = i.input_scope AND n.current "
    "WHERE i.current AND i.scope = $iteration AND i.input_scope = i.scope AND n.content <> o.content "
    "AND (i.stage, i.input_stage) IN (('adapter', 'preferences'), ('evaluation', 'adapter'))"
)
"""What the current adapter and evaluation were made from, where a rerun has written something else since."""


def unused(warehouse: Warehouse, iteration: str) -> tuple[str, ...]:
    """Say which newer rows, or newer adapter, of an iteration lie unused; best nothing.

    Another attempt that is under way is not meant: it goes on by itself.
    """
    sentences = []
    for found in warehouse.rows(f"{REPLACED} ORDER BY i.stage", {"iteration": iteration}):
        source = "preferences" if found["stage"] == "adapter" else "adapter"
        newer, older = (Generation(source, iteration, found[name]) for name in ("newer", "older"))
        behind = [policy_behind(warehouse, one) for one in (newer, older)]
        if behind[0] is None or behind[1] is None or behind[0].identity != behind[1].identity:
            continue
        again = f"rerun {warehouse.layout.stages[found['stage']].asset} to use"
        if found["stage"] == "adapter":
            sentences.append(
                f"Iteration {iteration}'s rows were harvested again (method {_method(warehouse, newer)}) after its "
                f"adapter was trained; the adapter saw generation {older.number}'s rows: {again} them."
            )
        elif _candidate(warehouse, newer) != _candidate(warehouse, older):
            sentences.append(
                f"Iteration {iteration}'s adapter was trained again after its evaluation, which measured that of "
                f"generation {older.number}: {again} it."
            )
    return tuple(sentences)


def unused_facts(warehouse: Warehouse, iteration: str) -> dict[str, str]:
    """Return the same as a step's facts: true when it ended, while a later run may have used them."""
    found = " ".join(unused(warehouse, iteration))
    return {"unused when this was written": found} if found else {}


def _method(warehouse: Warehouse, harvested: Generation) -> str:
    rows = warehouse.written("preference_rows", harvested)
    return str(rows[0]["method"]) if rows else "unknown, it gave no row"


def _candidate(warehouse: Warehouse, trained: Generation) -> str:
    return str(warehouse.written("trainings", trained)[0]["policy_digest"])
