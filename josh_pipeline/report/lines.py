"""The iterations that a report tells of: one line, from its base to the round asked for, with names."""

from collections.abc import Mapping
from dataclasses import dataclass

from josh_pipeline.errors import UserError
from josh_pipeline.stages.policy import PolicyRow
from josh_pipeline.store.warehouse import Warehouse


@dataclass(frozen=True)
class Line:
    """Iterations that go on from each other, all of them evaluated.

    Attributes:
        rows: the iterations' policies, the baseline first.
        names: policy digest to its name for people: ``cold start`` (``base`` where nothing was
            demonstrated), ``JOSH round 1``, ...
        candidates: iteration to the digest of the policy that it made; the base for the baseline.
    """

    rows: tuple[PolicyRow, ...]
    names: Mapping[str, str]
    candidates: Mapping[str, str]

    @property
    def iterations(self) -> tuple[str, ...]:
        """The partition keys."""
        return tuple(row.iteration for row in self.rows)

    @property
    def rounds(self) -> tuple[PolicyRow, ...]:
        """The iterations that trained something."""
        return tuple(row for row in self.rows if not row.is_baseline)

    def name_of(self, policy_digest: str) -> str:
        """A policy's name; of one that no current iteration made, its digest."""
        return self.names.get(policy_digest, policy_digest)


def line_of_iteration(warehouse: Warehouse, iteration: str | None = None) -> Line:
    """Return the line of an iteration, up to it.

    Args:
        iteration: partition key; None for the last iteration that was evaluated.

    Raises:
        UserError: it has not been evaluated, or nothing has.
    """
    found = warehouse.rows(
        "SELECT p.iteration, p.line FROM current_policies p WHERE p.iteration IN "
        "(SELECT iteration FROM current_evaluations) AND coalesce(p.iteration = $key, true) "
        "ORDER BY p.iteration DESC LIMIT 1",
        {"key": iteration},
    )
    if not found:
        what = "Nothing" if iteration is None else f"Iteration {iteration}"
        raise UserError(f"{what} has been evaluated in this home yet: run josh iterate first.")
    return _line(warehouse, found[0]["line"], found[0]["iteration"])


def all_lines(warehouse: Warehouse) -> list[Line]:
    """Return every line of the store, in the order of their first iterations."""
    found = warehouse.rows(
        "SELECT line, max(iteration) AS last FROM current_policies WHERE iteration IN "
        "(SELECT iteration FROM current_evaluations) GROUP BY line ORDER BY min(iteration)"
    )
    return [_line(warehouse, row["line"], row["last"]) for row in found]


def policy_name(warehouse: Warehouse, policy_digest: str) -> str:
    """Return a policy's name for people; its digest where no current iteration knows it."""
    found = [line.names[policy_digest] for line in all_lines(warehouse) if policy_digest in line.names]
    return found[0] if found else policy_digest


def _line(warehouse: Warehouse, line: str, last: str) -> Line:
    rows = [
        PolicyRow(**row)
        for row in warehouse.rows(
            "SELECT * FROM current_policies WHERE line = ? AND iteration <= ? AND iteration IN "
            "(SELECT iteration FROM current_evaluations) ORDER BY iteration",
            [line, last],
        )
    ]
    candidates = {
        row["iteration"]: row["policy_digest"]
        for row in warehouse.rows(
            "SELECT DISTINCT iteration, policy_digest FROM current_evaluations WHERE side = 'after'"
        )
    }
    demonstrated = warehouse.rows(
        "SELECT demonstrations FROM current_base_models WHERE scope = ?", [rows[0].base_scope]
    )
    base = "cold start" if demonstrated and demonstrated[0]["demonstrations"] else "base"
    first = int(rows[0].predecessor or rows[0].iteration)
    names = {rows[0].policy_digest: base}
    for row in rows:
        if not row.is_baseline:
            names[candidates[row.iteration]] = f"JOSH round {int(row.iteration) - first}"
    return Line(tuple(rows), names, {row.iteration: candidates[row.iteration] for row in rows})
