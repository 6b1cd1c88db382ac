"""The settings that something was made with, as the record of its run holds them."""

import json
from typing import Any

from pydantic import ValidationError

from josh_pipeline.core.errors import UserError
from josh_pipeline.settings import Settings
from josh_pipeline.store.warehouse import Warehouse


def recorded_run(warehouse: Warehouse, stage: str, scope: str) -> dict[str, Any]:
    """Return the record of the run that wrote the current generation of a stage.

    Raises:
        UserError: there is none.
    """
    found = warehouse.rows(
        "SELECT r.* FROM runs r JOIN generations g USING (run_id) "
        "WHERE g.stage = ? AND g.scope = ? AND g.current",
        [stage, scope],
    )
    if not found:
        raise UserError(f"The store holds no {stage} of {scope}, or not the run that made it.")
    return found[0]


def recorded_settings(run: dict[str, Any]) -> Settings:
    """Read the settings of a run.

    Raises:
        UserError: another release wrote them, and this one does not know them so.
    """
    try:
        return Settings.model_validate(json.loads(run["settings"]))
    except ValidationError as fault:
        names = ", ".join(".".join(map(str, error["loc"])) or "all" for error in fault.errors())
        raise UserError(
            f"The settings of run {run['run_id']} are of another release of this project ({names}): "
            "run that iteration again with this release, or read it with the other."
        ) from None
