"""What was made anew in an iteration and is used by nothing yet: trees, rows that no adapter saw, an adapter."""

from josh_pipeline.stages.policy import policy_behind
from josh_pipeline.store.warehouse import Generation, Warehouse

SAID = {
    "preferences": "Iteration {iteration}'s goals were searched again after its rows were harvested; the rows are from "
    "generation {older}'s trees: rerun {labels} and {preferences} to use the new ones.",
    "adapter": "Iteration {iteration}'s rows were harvested again (method {method}) after its adapter was trained; the "
    "adapter saw generation {older}'s rows: rerun {adapter} to use them.",
    "evaluation": "Iteration {iteration}'s adapter was trained again after its evaluation, which measured that of "
    "generation {older}: rerun {evaluation} to use it.",
}
"""Stage to what is said where a rerun has written something else since than it was made from."""
REPLACED = (
    "SELECT i.stage, i.input_stage AS source, o.generation AS older, n.generation AS newer FROM generation_inputs i "
    "JOIN generations o ON o.stage = i.input_stage AND o.scope = i.input_scope AND o.generation = i.input_generation "
    "JOIN generations n ON n.stage = i.input_stage AND n.scope = i.input_scope AND n.current "
    "WHERE i.current AND i.scope = ? AND i.input_scope = i.scope AND n.content <> o.content "
    "AND (i.stage, i.input_stage) IN "
    "(('preferences', 'rollouts'), ('adapter', 'preferences'), ('evaluation', 'adapter')) ORDER BY n.created_at"
)


def unused(warehouse: Warehouse, iteration: str) -> tuple[str, ...]:
    """Say which newer trees, rows or adapter of an iteration lie unused; best nothing.

    Another attempt that is under way is not meant: it goes on by itself.
    """
    assets = {name: stage.asset for name, stage in warehouse.layout.stages.items()}
    sentences = []
    for found in warehouse.rows(REPLACED, [iteration]):
        newer, older = (Generation(found["source"], iteration, found[name]) for name in ("newer", "older"))
        behind = [policy_behind(warehouse, one) for one in (newer, older)]
        if behind[0] is None or behind[1] is None or behind[0].identity != behind[1].identity:
            continue
        # The time that a training took is a part of its row, and makes no other adapter of it.
        if found["source"] == "adapter" and _candidate(warehouse, newer) == _candidate(warehouse, older):
            continue
        method = _method(warehouse, newer) if found["source"] == "preferences" else ""
        sentences.append(SAID[found["stage"]].format(iteration=iteration, older=older.number, method=method, **assets))
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
