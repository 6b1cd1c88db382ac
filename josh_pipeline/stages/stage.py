"""What a stage declares about itself, once; assets, store, audit and automation are derived from it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from josh_pipeline.settings import Settings
from josh_pipeline.stages.step import Step
from josh_pipeline.store.layout import Members
from josh_pipeline.store.warehouse import Generation


@dataclass(frozen=True)
class Verdict:
    """What a check found.

    Attributes:
        sentence: the finding for people.
        numbers: what it rests on, by name.
    """

    passed: bool
    sentence: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """A check of what a stage wrote; ``Made.verdicts`` says what it found.

    Attributes:
        about: what holds where it passes.
        blocking: where it fails nothing may be made of the rows; else it is a warning.
    """

    name: str
    about: str
    blocking: bool = False


@dataclass(frozen=True)
class Made:
    """What a stage wrote, and what it tells people.

    Attributes:
        version: equal where a rerun made the same.
        rows: of the stage's first table.
        facts: by name, plain values.
        tables: name to rows of equal keys; empty ones are left out.
        verdicts: one for each of the stage's checks.
        opens: the iteration that can be run next because of this.
        opened_policy: digest of the policy that was written for it; None where it was not.
    """

    generation: Generation
    version: str
    rows: int
    facts: Mapping[str, Any]
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    opens: str | None = None
    opened_policy: str | None = None


@dataclass(frozen=True)
class Stage:
    """A step of the pipeline.

    Attributes:
        name: in the store.
        asset: in Dagster.
        about: what it holds, for people.
        tables: each with the columns that name a row in it; rows are counted in the first.
        inputs: the stages that it reads: what Dagster draws, ``publish`` allows and the audit walks.
        earlier: stages of iterations before that it reads too.
        make: does the work for a scope; a user's mistake is a ``UserError``.
        scope_of: names the scope of settings; None: an iteration owns the stage.
        checks: of what it wrote.
        members: the table that lists trees or conversations, and where those are.
        sample: SELECT of rows to look at, with the scope as its parameter.
        origins: column to the columns of other stages that it was made from.
        kinds: what Dagster shows as icons.
        in_baseline: the iteration that only evaluates a base has it too.
        in_loop: ``josh iterate`` runs it in each iteration.
        scope_is_content: it is run for an iteration, and kept under a hash of what was played.
    """

    name: str
    asset: str
    about: str
    tables: Mapping[str, tuple[str, ...]]
    inputs: tuple[str, ...]
    make: Callable[[Step, str], Made]
    earlier: tuple[str, ...] = ()
    scope_of: Callable[[Settings], str] | None = None
    checks: tuple[Check, ...] = ()
    members: Members | None = None
    sample: str | None = None
    origins: Mapping[str, Sequence[str]] = field(default_factory=dict)
    kinds: frozenset[str] = frozenset({"duckdb"})
    in_baseline: bool = False
    in_loop: bool = True
    scope_is_content: bool = False

    @property
    def scope(self) -> Literal["scope", "iteration"]:
        """The column that holds what its generations belong to."""
        return "iteration" if self.of_iterations and not self.scope_is_content else "scope"

    @property
    def of_iterations(self) -> bool:
        """Iterations own it, and it is partitioned by them."""
        return self.scope_of is None

    def run(self, step: Step, iteration: str | None) -> Made:
        """Make the stage for the settings of a step, or for an iteration."""
        if self.scope_of is not None:
            return self.make(step, self.scope_of(step.settings))
        assert iteration is not None, f"{self.name} belongs to an iteration"
        with step.alone_in(iteration):
            return self.make(step, iteration)
