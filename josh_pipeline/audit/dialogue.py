"""Backwards: which adapters and evaluations ever saw a dialogue, over all generations."""

from dataclasses import dataclass
from typing import Any

from josh_pipeline.core.errors import UserError
from josh_pipeline.store.warehouse import Warehouse

ADAPTERS = """
WITH saw AS (
    SELECT a.*, (
        SELECT count(DISTINCT r.row_id) FROM row_lineage r
        JOIN adapter_rows b ON r.iteration = b.rows_iteration AND r.generation = b.rows_generation
        WHERE b.adapter_digest = a.adapter_digest AND r.dialogue_id = a.dialogue_id
    ) AS rows
    FROM adapter_dialogues a WHERE a.dialogue_id = $dialogue
)
SELECT adapter_digest, policy_digest, iteration, generation, current, through, rows FROM saw
UNION
SELECT t.adapter_digest, t.policy_digest, t.iteration, t.generation, g.current,
       'the adapter that it went on from', 0
FROM adapter_ancestors u
JOIN saw s ON s.adapter_digest = u.ancestor_digest AND s.through = 'rows'
JOIN trainings t ON t.adapter_digest = u.adapter_digest
JOIN generations g ON g.stage = 'adapter' AND g.scope = t.iteration AND g.generation = t.generation
WHERE u.ancestor_digest <> u.adapter_digest
ORDER BY iteration, generation, through DESC
"""


@dataclass(frozen=True)
class DialogueUse:
    """What became of a dialogue.

    Attributes:
        dialogue_id: as in the corpus.
        goals: goals that were derived from it: goal_id, role, kind, part.
        adapters: adapters that were trained on it, or that went on from one that was: adapter_digest,
            policy_digest, iteration, generation, current, ``through`` (``rows``, ``demonstrations``, or
            ``the adapter that it went on from``), and how many training ``rows`` came from it.
        evaluations: evaluations that played it: policy_digest, stage, scope, generation, role, reward, ...
    """

    dialogue_id: str
    goals: list[dict[str, Any]]
    adapters: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]


def dialogue_use(warehouse: Warehouse, dialogue_id: str) -> DialogueUse:
    """Find everything that ever saw a dialogue.

    Raises:
        UserError: no corpus of the store has it.
    """
    name = dialogue_id.removesuffix(".json")
    with warehouse.connection():
        if not warehouse.rows("SELECT 1 FROM dialogues WHERE dialogue_id = ? LIMIT 1", [name]):
            raise UserError(
                f"No corpus of this home has a dialogue {name!r}: take one that josh goals prints."
            )
        goals = warehouse.rows(
            "SELECT DISTINCT goal_id, role, kind, part, corpus_digest FROM goals WHERE dialogue_id = ? "
            "ORDER BY kind DESC, part, goal_id",
            [name],
        )
        adapters = warehouse.rows(ADAPTERS, {"dialogue": name})
        evaluations = warehouse.rows(
            "SELECT * EXCLUDE (dialogue_id) FROM dialogue_evaluations WHERE dialogue_id = ? "
            "ORDER BY stage DESC, scope, generation, policy_digest, goal_id",
            [name],
        )
    return DialogueUse(name, goals, adapters, evaluations)
