"""Which tables a stage writes, and what names a row in each: handed to the store by who knows the stages."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True)
class Members:
    """A stage's table that lists trees or conversations.

    Attributes:
        table: the list.
        key: the column that names them.
        content: the tables that hold them: first the one with a row for each, then that of their parts.
    """

    table: str
    key: str
    content: tuple[str, ...]

    @property
    def head(self) -> str:
        """The table with one row for each."""
        return self.content[0]

    @property
    def kind(self) -> str:
        """What people call one of them."""
        return "tree" if self.head == "trees" else "conversation"

    @property
    def digest(self) -> str:
        """The column of the list that holds the digest of each as the generation found it."""
        return f"{self.head.removesuffix('s')}_digest"


@dataclass(frozen=True, kw_only=True)
class StageLayout:
    """What a stage declares of what it writes.

    Attributes:
        name: in the store.
        asset: what people materialize to have it written.
        tables: each with the columns that name a row within a generation; rows are counted in the first.
        scope: the column that holds what its generations belong to: an iteration, or a content hash.
        inputs: the stages that it is made from.
        earlier: those of iterations before that it is made from too.
        members: the table that lists trees or conversations, and where those are.
    """

    name: str
    asset: str
    tables: Mapping[str, tuple[str, ...]]
    scope: Literal["scope", "iteration"] = "iteration"
    inputs: tuple[str, ...] = ()
    earlier: tuple[str, ...] = ()
    members: Members | None = None


CONTENT_KEYS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"trees": ("rollout_id",), "nodes": ("node_id",), "episodes": ("episode_id",), "runs": ("run_id",)}
)
"""Tables of no stage, whose rows are named by content or by a run, and the columns that name them."""
TRY = "policy_digest, goal_id, seed, settings_digest"
"""Columns of ``trees`` and ``episodes`` that all tries of one search or conversation share."""


class Layout:
    """The tables of all stages.

    Args:
        stages: in the order in which they run.
    """

    def __init__(self, stages: Iterable[StageLayout]) -> None:
        self.stages: Mapping[str, StageLayout] = {stage.name: stage for stage in stages}
        self._stage_of = {table: stage for stage in self.stages.values() for table in stage.tables}

    def stage_of(self, table: str) -> StageLayout | None:
        """Return the stage that writes a table; None for tables of no stage."""
        return self._stage_of.get(table)

    def keys(self, table: str) -> tuple[str, ...]:
        """Return the columns that name a row, within its generation where the table has generations."""
        stage = self.stage_of(table)
        return CONTENT_KEYS[table] if stage is None else stage.tables[table]

    @property
    def tables(self) -> tuple[str, ...]:
        """Every table whose rows have a digest."""
        return (*self._stage_of, *CONTENT_KEYS)

    @property
    def member_lists(self) -> dict[str, Members]:
        """Stage to its list of trees or conversations, of those that have one."""
        return {stage.name: stage.members for stage in self.stages.values() if stage.members is not None}
