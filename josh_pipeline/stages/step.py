"""What every step is given."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.progress import Progress
from josh_pipeline.settings import Settings
from josh_pipeline.store.home import Home
from josh_pipeline.store.locks import alone
from josh_pipeline.store.run_record import record_of
from josh_pipeline.store.schema import scope_column
from josh_pipeline.store.warehouse import Generation, Warehouse


@dataclass(frozen=True)
class Step:
    """A home, the settings of a run, and where progress is told.

    Attributes:
        run_id: names the run in the store; Dagster's where Dagster runs the step.
    """

    home: Home
    warehouse: Warehouse
    settings: Settings
    run_id: str
    progress: Progress

    def require(self, stage: str, scope: str, asset: str) -> Generation:
        """Return the current generation of a stage that this step reads.

        Raises:
            UserError: it has not been written; ``asset`` names what to materialize.
        """
        generation = self.warehouse.current(stage, scope)
        if generation is None:
            where = f" of iteration {scope}" if len(scope) == ITERATION_DIGITS else ""
            raise UserError(f"Materialize {asset}{where} first, with these settings: it is not in the store.")
        return generation

    def written(self, table: str, generation: Generation) -> list[dict[str, Any]]:
        """Return a generation's rows of a table of its stage, whatever has become current since."""
        return self.warehouse.rows(
            f"SELECT * FROM {table} WHERE {scope_column(generation.stage)} = ? AND generation = ? "
            "ORDER BY ALL",
            [generation.scope, generation.number],
        )


ITERATION_DIGITS = 3
BASELINE = "000"


def iteration_key(number: int) -> str:
    """Return the partition key of an iteration: zero-padded, so that keys sort as numbers."""
    return f"{number:0{ITERATION_DIGITS}d}"


Result = TypeVar("Result")


def one_at_a_time(work: Callable[[Step, str], Result]) -> Callable[[Step, str], Result]:
    """Let a step that writes an iteration's rows run once at a time for each iteration.

    The command line, the UI and the daemon start runs of their own. ``work`` raises a UserError where
    another process is in such a step of the same iteration.
    """

    @wraps(work)
    def held(step: Step, iteration: str) -> Result:
        path = step.home.root / "locks" / f"iteration-{iteration}.lock"
        path.parent.mkdir(exist_ok=True)
        with alone(path, f"Another run works on iteration {iteration}: wait for it, or stop it."):
            return work(step, iteration)

    return held


def start_step(home: Home, settings: Settings, run_id: str, progress: Progress) -> Step:
    """Open the store and record the run."""
    warehouse = home.warehouse()
    warehouse.record_run(record_of(run_id, settings))
    return Step(home, warehouse, settings, run_id, progress)
