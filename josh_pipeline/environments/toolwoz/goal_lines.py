"""``josh goals``: a JSON line for every derived goal."""

import json
from typing import TextIO

from josh_pipeline.core.errors import UserError
from josh_pipeline.environments.toolwoz.goal import Goal, Semantics
from josh_pipeline.environments.toolwoz.goals import derive_goals
from josh_pipeline.environments.toolwoz.records import Corpus, Split


def run(corpus: Corpus, split: Split | None, semantics: Semantics, out: TextIO) -> int:
    """Write the whole goals of a corpus, or of one of its own lists, excluded ones included.

    Raises:
        UserError: the corpus has no such list.
    """
    splits = sorted({dialogue.split for dialogue in corpus.dialogues})
    if split is not None and split not in splits:
        raise UserError(f"{corpus.name} has no {split} list: use --split with {' or '.join(splits)}.")
    for goal in derive_goals(corpus, semantics):
        if split is None or goal.split == split:
            out.write(goal_line(goal) + "\n")
    return 0


def goal_line(goal: Goal) -> str:
    """Return a goal as one line of JSON."""
    return json.dumps(
        {
            "goal_id": goal.goal_id,
            "dialogue_id": goal.dialogue_id,
            "split": goal.split,
            "domains": goal.domains,
            "message": goal.message,
            "calls": [
                {"tool": call.tool, "parameters": call.parameters, "entity": call.entity}
                for call in goal.calls
            ],
            "excluded": goal.excluded,
        }
    )
