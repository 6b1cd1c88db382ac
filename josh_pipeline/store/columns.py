"""What the columns of the store hold, as schema.sql says it."""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

COMMON = {
    "scope": "content hash of the settings that the row depends on",
    "generation": "which run of the step wrote the row, counted from 1 within its scope",
    "iteration": "partition key of the iteration",
    "corpus_digest": "content hash of the corpus that was read",
    "source_id": "what a task was derived from, as its corpus names it",
    "goal_id": "content hash of all that a task is",
    "rollout_id": "content hash of policy, goal, seed, settings and retry: names a tree",
    "node_id": "content hash of the tree and the path in it: names an agent's turn",
    "row_id": "content hash of method, prompt, sides and labels: names a training row",
    "episode_id": "content hash of policy, goal, seed, settings and retry: names a conversation",
    "policy_digest": "content hash of the base and the adapter",
    "base_digest": "content hash of the base's weights",
    "adapter_digest": "content hash of the adapter's weights; null where there is none",
    "settings_digest": "content hash of the settings that shaped it",
    "run_id": "the run that wrote it: table runs",
    "seed": "the seed that it was drawn with",
    "split": "the corpus's own list: train, val or test",
    "role": "what the loop does with the goal: train is harvested, val gates promotion, test is shown",
    "kind": "kind of task; scores of different kinds never mix",
    "goal_kind": "kind of task; scores of different kinds never mix",
    "collection": "where it is looked up, e.g. a table of a database",
    "reward": "what the conversation was worth, 0 to 1",
    "success": "whether the full reward was earned",
    "earned": "ids of the milestones that were earned",
    "golden": "whether it lies on the path that the tree collapsed to",
    "successful": "whether it earned in the round in which the tree collapsed",
    "agrees": "whether the search noted the same",
    "error_turn": "whether the turn ended without an answer to the user",
    "ended": "why there is no child: solved, pruned, failed, ...",
    "failure": "kind of error; null where there was none",
    "calls": "tool calls with their arguments",
    "messages": "the messages, in order",
    "completions": "what was sampled: text, token ids, finish reason",
    "path": "child indexes from the root",
    "retry": "how often the same had failed before",
    "digest": "digest of the row",
    "excluded": "why the goal cannot be played; null where it can",
    "solvable": "whether an oracle earns the full reward",
    "attempt": "counted from 1; a refusal begins another",
    "line": "iterations that go on from each other share it",
    "method": "training method that it is for, by its name in the settings",
    "prompt": "messages before what is learnt",
    "promoted": "whether it became the next iteration's policy",
    "n": "goals that were played",
    "low": "lower end of the 95 % interval",
    "high": "upper end of the 95 % interval",
}
"""Columns that many tables share; a comment in schema.sql comes first."""

TABLE = re.compile(r"CREATE TABLE (\w+) \((.*?)\);", re.DOTALL)
COLUMN = re.compile(r"^(\w+) ([A-Z]+(?:\[\])?)(.*)$")
CONSTRAINTS = ("PRIMARY", "UNIQUE", "CHECK", "FOREIGN")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        type: as DuckDB names it.
        required: it is never null.
        about: what it holds; empty where nobody has said.
    """

    name: str
    type: str
    required: bool
    about: str


@cache
def columns() -> dict[str, tuple[Column, ...]]:
    """Return the columns of every table, in order."""
    text = (files("josh_pipeline.store") / "schema.sql").read_text()
    # A comment may hold a bracket and a semicolon, but no table ends within its line.
    return {match[1]: _columns(match[2]) for match in TABLE.finditer(_closed(text))}


def _closed(text: str) -> str:
    """Put a table that is written on one line on three, so that all are read alike."""
    return re.sub(r"^(CREATE TABLE \w+ \()(.+)\);$", r"\1\n\2\n);", text, flags=re.MULTILINE)


def _columns(body: str) -> tuple[Column, ...]:
    found: list[Column] = []
    for line in body.splitlines():
        code, _, comment = line.partition("--")
        for part in code.split(","):
            match = COLUMN.match(part.strip())
            if match is None or match[1] in CONSTRAINTS:
                continue
            required = "NOT NULL" in match[3] or "PRIMARY KEY" in match[3]
            found.append(Column(match[1], match[2], required, COMMON.get(match[1], "")))
        if comment and code.strip() and found:
            last = found[-1]
            found[-1] = Column(last.name, last.type, last.required, comment.strip())
    return tuple(found)
