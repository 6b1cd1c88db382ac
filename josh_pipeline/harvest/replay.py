"""Rows of earlier iterations trained on again."""

from collections.abc import Hashable, Iterable, Sequence

from josh_pipeline.core.ids import canonical_json
from josh_pipeline.harvest.rows import DpoRow, Row, SftRow, message_key, prompt_id


def with_replayed(own: Sequence[Row], earlier: Iterable[Sequence[Row]]) -> list[Row]:
    """Return an iteration's rows, then those of earlier iterations that say nothing about the same thing.

    Where two iterations judge the same completion of the same prompt (or the same two against each other),
    the newer judgement stands.

    Args:
        own: the iteration's rows.
        earlier: rows of earlier iterations, newest first; those of another method are left out.
    """
    rows = list(own)
    judged = {_subject(row) for row in rows}
    kinds = {type(row) for row in own}
    for older in earlier:
        fresh = [row for row in older if type(row) in kinds and _subject(row) not in judged]
        rows += fresh
        judged |= {_subject(row) for row in fresh}
    return rows


def _subject(row: Row) -> Hashable:
    """What a row is a judgement about."""
    if isinstance(row, SftRow):
        return row.row_id
    sides = (row.chosen, row.rejected) if isinstance(row, DpoRow) else (row.completion,)
    completions = frozenset(canonical_json(message_key(side.message)) for side in sides)
    return prompt_id(row.tools, row.prompt), completions
