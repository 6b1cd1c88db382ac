"""One training row, found and audited."""

from typing import Any

from josh_pipeline.audit.chain import Chain, RowAudit
from josh_pipeline.audit.context import Context, Reading
from josh_pipeline.audit.findings import Audit
from josh_pipeline.core.errors import UserError
from josh_pipeline.store.home import Home
from josh_pipeline.store.lineage import history


def audit_row(home: Home, prefix: str) -> RowAudit:
    """Check every link of one training row.

    Args:
        prefix: the first digits of its id.

    Raises:
        UserError: no row, or several, begin so.
    """
    warehouse = home.warehouse()
    with Reading(warehouse) as reading:
        context = Context(home, warehouse, history(warehouse), Audit(), reading)
        return Chain(context, find_row(context, prefix)).audited()


def find_row(context: Context, prefix: str) -> dict[str, Any]:
    """Return a row by the first digits of its id: the newest where it was harvested more than once."""
    found = context.warehouse.rows(
        "SELECT r.* FROM preference_rows r JOIN generations g ON g.stage = 'preferences' "
        "AND g.scope = r.iteration AND g.generation = r.generation WHERE starts_with(r.row_id, ?) "
        "ORDER BY g.current DESC, g.created_at DESC, r.row_id",
        [prefix],
    )
    ids = {row["row_id"] for row in found}
    if len(ids) != 1:
        number = "No training row begins" if not ids else f"{len(ids)} training rows begin"
        raise UserError(
            f"{number} with {prefix!r}: give an iteration, or a row_id of the table preference_rows."
        )
    return found[0]
