"""The check that stands between a harvest and a training run."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from josh_pipeline.core.content import canonical_json
from josh_pipeline.core.policy import Completion
from josh_pipeline.dialogue.agents import AgentFormat
from josh_pipeline.harvest.rows import Row

MOST_LOPSIDED = 20.0
"""Labels further apart than this ratio are worth a word: one side hardly weighs in the loss."""


@dataclass(frozen=True)
class Remark:
    """Something about the rows that a person should know before training.

    Attributes:
        rule: short name, e.g. ``same_prompt``.
        blocking: training on these rows would be wrong; else a figure worth seeing.
        rows: row ids that it is about; empty where it is about all of them.
        message: one sentence.
    """

    rule: str
    blocking: bool
    rows: tuple[str, ...]
    message: str


def check_rows(rows: Sequence[Row], agent: AgentFormat, max_tokens: int) -> list[Remark]:
    """Find what is wrong with a harvest.

    Args:
        rows: all of one method, and counted.
        agent: the format that the completions must parse in.
        max_tokens: the length limit of training; a longer row would be cut.

    Returns:
        Blocking remarks first. The balance of the labels is always among the others.
    """
    if not rows:
        return [Remark("no_rows", True, (), "The harvest is empty: nothing was earned, or all was refused.")]
    remarks = [
        _about(rows, "mixed_methods", lambda row: row.method != rows[0].method, "are of another method"),
        _about(rows, "prompt_ends", lambda row: not _prompt_ends(row), "are asked of the agent by nobody"),
        _about(rows, "parses", lambda row: not _parses(row, agent), "teach what the agent cannot read"),
        _about(rows, "too_long", lambda row: row.tokens > max_tokens, f"exceed {max_tokens} tokens"),
        _about(rows, "same_sides", _same_sides, "prefer a message to itself"),
        *_twice(rows),
        *_labels([row for row in rows if row.kind == "messages"]),
    ]
    found = [remark for remark in remarks if remark is not None]
    return sorted(found, key=lambda remark: not remark.blocking)


def _about(rows: Sequence[Row], rule: str, wrong: Callable[[Row], bool], verb: str) -> Remark | None:
    ids = tuple(row.row_id for row in rows if wrong(row))
    return Remark(rule, True, ids, f"{len(ids)} of {len(rows)} rows {verb}.") if ids else None


def _prompt_ends(row: Row) -> bool:
    """Whether each trained message follows a system message and then a user's or a tool's."""
    return row.prompt[0].role == "system" and all(
        before.role in ("user", "tool") and one.message.role == "assistant"
        for side in row.sides
        for before, one in zip((row.prompt[-1], *side.messages), side.said, strict=False)
        if one.train
    )


def _parses(row: Row, agent: AgentFormat) -> bool:
    """Whether the agent reads what is desirable; what is undesirable may be unreadable."""
    trained = [one.message for one in row.good.said if one.train] if row.good else []
    return all(agent.read(Completion(one.content, one.tool_calls)).fault is None for one in trained)


def _same_sides(row: Row) -> bool:
    return len(row.sides) == 2 and row.sides[0].key == row.sides[1].key


def _twice(rows: Sequence[Row]) -> list[Remark]:
    counts = Counter(row.row_id for row in rows)
    again = tuple(row_id for row_id, count in counts.items() if count > 1)
    if not again:
        return []
    return [Remark("unique", True, again, f"{len(again)} rows occur more than once.")]


def _labels(rows: Sequence[Row]) -> list[Remark]:
    if not rows:
        return []
    remarks = []
    labels: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        labels.setdefault((row.prompt_id, canonical_json(row.sides[0].key)), set()).add(row.label)
    both = sum(len(found) == 2 for found in labels.values())
    if both:
        remarks.append(Remark("contradiction", True, (), f"{both} completions have both labels."))
    good = sum(row.label == "desirable" for row in rows)
    bad = len(rows) - good
    if not good or not bad:
        missing = "undesirable" if good else "desirable"
        remarks.append(Remark("both_labels", True, (), f"No row is {missing}: KTO needs both labels."))
    answered = {row.prompt_id for row in rows if row.good}
    alone = tuple(row.row_id for row in rows if row.prompt_id not in answered)
    if alone:
        message = f"{len(alone)} undesirable rows share their prompt with no desirable one."
        remarks.append(Remark("same_prompt", True, alone, message))
    lopsided = bool(good and bad) and max(good / bad, bad / good) > MOST_LOPSIDED
    note = ": one side hardly weighs in the loss" if lopsided else ""
    remarks.append(Remark("balance", False, (), f"{good} desirable and {bad} undesirable rows{note}."))
    return remarks
