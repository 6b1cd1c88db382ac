"""The check that stands between a harvest and a training run."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from josh_pipeline.core.ids import canonical_json
from josh_pipeline.core.messages import Message
from josh_pipeline.core.policy import Completion
from josh_pipeline.dialogue.agent import AgentFormat
from josh_pipeline.harvest.rows import DpoRow, KtoRow, Row, SftRow, message_key, method_of, prompt_id

MOST_LOPSIDED = 20.0
"""Labels further apart than this ratio are worth a word: one side hardly weighs in the loss."""


@dataclass(frozen=True)
class Finding:
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


def check_rows(
    rows: Sequence[Row], agent: AgentFormat, tokens: Callable[[Row], int], max_tokens: int
) -> list[Finding]:
    """Find what is wrong with a harvest.

    Args:
        rows: all of one method.
        agent: the format that the completions must parse in.
        tokens: the length of a row as training sees it (of a pair: the longer side).
        max_tokens: the length limit of training; a longer row would be cut.

    Returns:
        Blocking findings first. The balance of the labels is always among the others.
    """
    if not rows:
        return [Finding("no_rows", True, (), "The harvest is empty: nothing was earned, or all was refused.")]
    findings = [
        _about(rows, "mixed_methods", lambda r: method_of(r) != method_of(rows[0]), "are of another method"),
        _about(rows, "prompt_ends", lambda row: not _prompt_ends(row), "are asked of the agent by nobody"),
        _about(rows, "parses", lambda row: not _parses(row, agent), "teach what the agent cannot read"),
        _about(rows, "too_long", lambda row: tokens(row) > max_tokens, f"exceed {max_tokens} tokens"),
        _about(rows, "same_sides", _same_sides, "prefer a message to itself"),
        *_twice(rows),
        *_labels([row for row in rows if isinstance(row, KtoRow)]),
    ]
    found = [finding for finding in findings if finding is not None]
    return sorted(found, key=lambda finding: not finding.blocking)


def _about(rows: Sequence[Row], rule: str, wrong: Callable[[Row], bool], verb: str) -> Finding | None:
    ids = tuple(row.row_id for row in rows if wrong(row))
    return Finding(rule, True, ids, f"{len(ids)} of {len(rows)} rows {verb}.") if ids else None


def _trained(row: Row) -> tuple[Message, ...]:
    if isinstance(row, SftRow):
        return tuple(m for m, train in zip(row.messages, row.train, strict=True) if train)
    return (row.completion.message,) if isinstance(row, KtoRow) else (row.chosen.message,)


def _prompt_ends(row: Row) -> bool:
    """Whether each trained message follows a system message and then a user's or a tool's."""
    if not isinstance(row, SftRow):
        return row.prompt[0].role == "system" and row.prompt[-1].role in ("user", "tool")
    before = zip(row.messages, row.messages[1:], row.train[1:], strict=False)
    return row.messages[0].role == "system" and all(
        first.role in ("user", "tool") and second.role == "assistant"
        for first, second, train in before
        if train
    )


def _parses(row: Row, agent: AgentFormat) -> bool:
    """Whether the agent reads what is desirable; what is undesirable may be unreadable."""
    if isinstance(row, KtoRow) and not row.desirable:
        return True
    return all(agent.read(_as_completion(message)).fault is None for message in _trained(row))


def _as_completion(message: Message) -> Completion:
    return Completion(
        text=message.content,
        tool_calls=message.tool_calls,
        token_ids=None,
        finish_reason="stop",
        prompt_tokens=0,
        cached_tokens=0,
        completion_tokens=0,
        prompt_digest=None,
    )


def _same_sides(row: Row) -> bool:
    return isinstance(row, DpoRow) and message_key(row.chosen.message) == message_key(row.rejected.message)


def _twice(rows: Sequence[Row]) -> list[Finding]:
    counts = Counter(row.row_id for row in rows)
    again = tuple(row_id for row_id, count in counts.items() if count > 1)
    if not again:
        return []
    return [Finding("unique", True, again, f"{len(again)} rows occur more than once.")]


def _labels(rows: Sequence[KtoRow]) -> list[Finding]:
    if not rows:
        return []
    findings = []
    sides: dict[tuple[str, str], set[bool]] = {}
    answered: set[str] = set()
    for row in rows:
        prompt = prompt_id(row.tools, row.prompt)
        completion = canonical_json(message_key(row.completion.message))
        sides.setdefault((prompt, completion), set()).add(row.desirable)
        if row.desirable:
            answered.add(prompt)
    both = sum(len(labels) == 2 for labels in sides.values())
    if both:
        findings.append(Finding("contradiction", True, (), f"{both} completions have both labels."))
    good = sum(row.desirable for row in rows)
    bad = len(rows) - good
    if not good or not bad:
        missing = "undesirable" if good else "desirable"
        findings.append(Finding("both_labels", True, (), f"No row is {missing}: KTO needs both labels."))
    alone = tuple(
        row.row_id for row in rows if not row.desirable and prompt_id(row.tools, row.prompt) not in answered
    )
    if alone:
        message = f"{len(alone)} undesirable rows share their prompt with no desirable one."
        findings.append(Finding("same_prompt", True, alone, message))
    lopsided = bool(good and bad) and max(good / bad, bad / good) > MOST_LOPSIDED
    note = ": one side hardly weighs in the loss" if lopsided else ""
    findings.append(Finding("balance", False, (), f"{good} desirable and {bad} undesirable rows{note}."))
    return findings
