"""What a stage declares about itself, once, and the step of a run that makes it."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from josh_pipeline.core.content import content_id
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.faults import faults_of
from josh_pipeline.core.locks import alone
from josh_pipeline.core.progress import Progress
from josh_pipeline.settings import Settings
from josh_pipeline.store.home import Home
from josh_pipeline.store.layout import StageLayout
from josh_pipeline.store.run_record import record_of
from josh_pipeline.store.warehouse import Generation, Warehouse

ITERATION_DIGITS = 3
BASELINE = "000"
BASELINE_ASSET = "base_evaluation"
"""What Dagster calls the stages of a baseline: one asset, which belongs to settings as the base does."""


@dataclass(frozen=True)
class Step:
    """A home, the settings of a run, and where progress is told.

    Attributes:
        run_id: names the run in the store; Dagster's where Dagster runs the step.
        noted: facts that came up on the way; they are told with what the step made.
    """

    home: Home
    warehouse: Warehouse
    settings: Settings
    run_id: str
    progress: Progress
    noted: dict[str, Any] = field(default_factory=dict)

    def asset(self, stage: str) -> str:
        """What Dagster calls a stage."""
        return self.warehouse.layout.stages[stage].asset

    def require(self, stage: str, scope: str) -> Generation:
        """Return the current generation of a stage that this step reads.

        Raises:
            UserError: it has not been written.
        """
        generation = self.warehouse.current(stage, scope)
        if generation is None:
            where = f" of iteration {scope}" if len(scope) == ITERATION_DIGITS else ""
            raise UserError(
                f"Materialize {self.asset(stage)}{where} first, with these settings: it is not in the store."
            )
        return generation

    @contextmanager
    def alone_in(self, iteration: str) -> Iterator[None]:
        """Let a step that writes an iteration's rows run once at a time for each iteration.

        The command line, the UI and the daemon start runs of their own.

        Raises:
            UserError: another process is in such a step of the same iteration.
        """
        path = self.home.root / "locks" / f"iteration-{iteration}.lock"
        path.parent.mkdir(exist_ok=True)
        with alone(path, f"Another run works on iteration {iteration}: wait for it, or stop it."):
            yield


def start_step(home: Home, settings: Settings, run_id: str, progress: Progress) -> Step:
    """Open the store and record the run."""
    warehouse = home.warehouse()
    warehouse.record_run(record_of(run_id, settings))
    return Step(home, warehouse, settings, run_id, progress)


def iteration_key(number: int) -> str:
    """Return the partition key of an iteration: zero-padded, so that keys sort as numbers."""
    return f"{number:0{ITERATION_DIGITS}d}"


def written_key(text: str) -> str | None:
    """Return the partition key that somebody wrote as a number, with or without its zeros; else None."""
    return text.lstrip("0").zfill(ITERATION_DIGITS) if text.isdecimal() else None


def known_key(warehouse: Warehouse, text: str) -> str | None:
    """Return the partition key of an iteration of a store; None where a text names none.

    The first digits of an id may be digits only: what names an iteration that is there is one, all else an id.
    """
    key = written_key(text)
    return key if warehouse.rows("SELECT 1 FROM generations WHERE scope = ? LIMIT 1", [key]) else None


def corpus_scope(settings: Settings) -> str:
    """Name what an environment reads from outside."""
    environment = settings.environment
    return content_id("corpus", environment.name, environment.source_key())


def goals_scope(settings: Settings) -> str:
    """Name the tasks of an environment."""
    return content_id("goals", corpus_scope(settings), settings.environment.tasks_key())


def base_scope(settings: Settings) -> str:
    """Name a base model: the model, and what its cold start is made from.

    The seed is left out: a later run with another seed goes on from the base that is there.
    """
    model = [settings.policy.model, settings.policy.endpoint]
    if not settings.taught:
        return content_id("base", model)
    cold_start = settings.cold_start.model_dump(mode="json")
    return content_id("base", model, goals_scope(settings), cold_start, settings.policy.agent)


def recorded_run(warehouse: Warehouse, stage: str, scope: str) -> dict[str, Any]:
    """Return the record of the run that wrote the current generation of a stage.

    Raises:
        UserError: there is none.
    """
    found = warehouse.rows(
        "SELECT r.* FROM runs r JOIN generations g USING (run_id) WHERE g.stage = ? AND g.scope = ? AND g.current",
        [stage, scope],
    )
    if not found:
        raise UserError(f"The store holds no {stage} of {scope}, or not the run that made it.")
    return found[0]


def recorded_settings(run: Mapping[str, Any]) -> Settings:
    """Read the settings of a run.

    Raises:
        UserError: another release wrote them, and this one does not know them so.
    """
    try:
        return Settings.model_validate(json.loads(run["settings"]))
    except ValidationError as fault:
        faults = faults_of(fault, Settings)
        raise UserError(
            f"The settings of run {run['run_id']} are of another release of this project ({faults}): "
            "run that iteration again with this release, or read it with the other."
        ) from None


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
        blocking: where it fails nothing may be made of the rows, and a stage that knows before it writes them raises
            ``RefusedError``; else it is a warning.
    """

    name: str
    about: str
    blocking: bool = False


class RefusedError(UserError):
    """A blocking check has failed before the stage wrote anything: no later run goes on from its rows.

    Args:
        check: its name.
    """

    def __init__(self, check: str, verdict: Verdict) -> None:
        super().__init__(verdict.sentence)
        self.check = check
        self.verdict = verdict


@dataclass(frozen=True)
class Made:
    """What a stage wrote, and what it tells people.

    Attributes:
        version: equal where a rerun made the same.
        rows: of the stage's first table.
        facts: by name, plain values.
        tables: name to rows of equal keys; empty ones are left out.
        verdicts: one for each of the stage's checks.
        renewed: a later iteration whose policy was written anew because of this, and that policy's digest.
    """

    generation: Generation
    version: str
    rows: int
    facts: Mapping[str, Any]
    tables: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    renewed: tuple[str, str] | None = None


def facts_of(record: Mapping[str, Any], *columns: str) -> dict[str, Any]:
    """Return columns of a row as facts, under the same names in words."""
    return {column.replace("_", " "): record[column] for column in columns}


@dataclass(frozen=True, kw_only=True)
class Stage(StageLayout):
    """A step of the pipeline, and what it writes; its ``inputs`` are what Dagster draws.

    Attributes:
        about: what it holds, for people.
        make: does the work for a scope; a user's mistake is a ``UserError``.
        scope_of: names the scope of settings; None: an iteration owns the stage, which is partitioned by them.
        checks: of what it wrote.
        sample: SELECT of rows to look at, with the scope as its parameter.
        origins: column to the columns of other stages that it was made from.
        kinds: what Dagster shows as icons.
        in_baseline: the iteration that only evaluates a base has it too.
        in_loop: ``josh iterate`` runs it in each iteration.
    """

    about: str
    make: Callable[[Step, str], Made]
    scope_of: Callable[[Settings], str] | None = None
    checks: tuple[Check, ...] = ()
    sample: str | None = None
    origins: Mapping[str, Sequence[str]] = field(default_factory=dict)
    kinds: frozenset[str] = frozenset({"duckdb"})
    in_baseline: bool = False
    in_loop: bool = True

    @property
    def of_iterations(self) -> bool:
        """Iterations own it."""
        return self.scope_of is None

    def run(self, step: Step, iteration: str | None) -> Made:
        """Make the stage for the settings of a step, or for an iteration.

        Raises:
            UserError: no iteration is called so, or the stage cannot be made.
        """
        if self.scope_of is not None:
            return self._made(step, self.scope_of(step.settings))
        assert iteration is not None, f"{self.name} belongs to an iteration"
        if not iteration.isdecimal() or iteration_key(int(iteration)) != iteration:
            raise UserError(f"{iteration!r} names no iteration: iterations are numbers of three digits, like 002.")
        with step.alone_in(iteration):
            return self._made(step, iteration)

    def _made(self, step: Step, scope: str) -> Made:
        made = self.make(step, scope)
        return replace(made, facts={**made.facts, **step.noted})
