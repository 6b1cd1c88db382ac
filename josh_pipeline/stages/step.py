"""What every step is given."""

from dataclasses import dataclass

from josh_pipeline.errors import UserError
from josh_pipeline.home import Home
from josh_pipeline.progress import Progress
from josh_pipeline.settings import Settings
from josh_pipeline.store.run_record import record_of
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


ITERATION_DIGITS = 3
BASELINE = "000"


def iteration_key(number: int) -> str:
    """Return the partition key of an iteration: zero-padded, so that keys sort as numbers."""
    return f"{number:0{ITERATION_DIGITS}d}"


def start_step(home: Home, settings: Settings, run_id: str, progress: Progress) -> Step:
    """Open the store and record the run."""
    warehouse = home.warehouse()
    warehouse.record_run(record_of(run_id, settings))
    return Step(home, warehouse, settings, run_id, progress)
