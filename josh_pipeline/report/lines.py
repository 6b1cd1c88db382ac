"""The iterations that a report tells of: one line, from its base to the round asked for, with names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from josh_pipeline.core.environment import Environment
from josh_pipeline.core.errors import UserError
from josh_pipeline.environments.registry import environment_class
from josh_pipeline.report.words import GoalKind, goal_kind
from josh_pipeline.stages.policy import PolicyRow, policy_row
from josh_pipeline.stages.step import recorded_run, recorded_settings
from josh_pipeline.store.warehouse import Warehouse

EVALUATED = (
    "(SELECT p.* FROM policies p JOIN generation_inputs i ON i.input_stage = 'policy' "
    "AND i.input_scope = p.iteration AND i.input_generation = p.generation "
    "WHERE i.stage = 'evaluation' AND i.scope = p.iteration AND i.current)"
)
"""Policies as the current evaluations found them: while another attempt runs, the iteration's is another."""


@dataclass(frozen=True)
class Refused:
    """An attempt that the gate refused and a later one replaced; its rows stay in the store.

    Attributes:
        policy: what the attempt played with.
        candidate: digest of what it made.
        evaluation: generation of its evaluation.
        reason: the gate's.
    """

    policy: PolicyRow
    candidate: str
    evaluation: int
    reason: str


@dataclass(frozen=True)
class Line:
    """Iterations that go on from each other, all of them evaluated.

    Attributes:
        rows: the iterations' policies as they were evaluated, the baseline first.
        names: policy digest to its name for people: ``cold start`` (``base`` where nothing was
            demonstrated), ``JOSH round 1``, ... (``JOSH round 1, attempt 2`` where one before was refused).
        candidates: iteration to the digest of the policy that it made; the base for the baseline.
        refused: attempts that later ones replaced, in order.
        environment: what the last iteration was played in; None where its settings cannot be read.
    """

    rows: tuple[PolicyRow, ...]
    names: Mapping[str, str]
    candidates: Mapping[str, str]
    refused: tuple[Refused, ...]
    environment: type[Environment[Any]] | None

    @property
    def iterations(self) -> tuple[str, ...]:
        """The partition keys."""
        return tuple(row.iteration for row in self.rows)

    @property
    def rounds(self) -> tuple[PolicyRow, ...]:
        """The iterations that trained something."""
        return tuple(row for row in self.rows if not row.is_baseline)

    def name_of(self, policy_digest: str) -> str:
        """A policy's name; of one that no iteration of the line made, its digest."""
        return self.names.get(policy_digest, policy_digest)

    def attempts(self, warehouse: Warehouse) -> list[tuple[PolicyRow, str, int]]:
        """Every attempt that was evaluated, in order, those of an iteration together.

        Returns:
            What it played with, the digest of what it made, and the generation of its evaluation.
        """
        found = [(one.policy, one.candidate, one.evaluation) for one in self.refused]
        for row in self.rows:
            current = warehouse.current("evaluation", row.iteration)
            assert current is not None, "a line's iterations are evaluated"
            found.append((row, self.candidates[row.iteration], current.number))
        return sorted(found, key=lambda one: (one[0].iteration, one[0].attempt))

    def kind(self, name: str) -> GoalKind:
        """A kind of goals, as its environment calls it."""
        return goal_kind(name, self.environment)

    def round_of(self, row: PolicyRow) -> str:
        """The name of an iteration that trained something; empty for the baseline, which is no round."""
        return "" if row.is_baseline else self.name_of(self.candidates[row.iteration])


def line_of_iteration(warehouse: Warehouse, iteration: str | None = None) -> Line:
    """Return the line of an iteration, up to it.

    Args:
        iteration: partition key; None for the last iteration that was evaluated.

    Raises:
        UserError: it has not been evaluated, or nothing has.
    """
    found = warehouse.rows(
        f"SELECT iteration, line FROM {EVALUATED} WHERE coalesce(iteration = $key, true) "
        "ORDER BY iteration DESC LIMIT 1",
        {"key": iteration},
    )
    if not found:
        what = "Nothing" if iteration is None else f"Iteration {iteration}"
        raise UserError(f"{what} has been evaluated in this home yet: run josh iterate first.")
    return _line(warehouse, found[0]["line"], found[0]["iteration"])


def all_lines(warehouse: Warehouse) -> list[Line]:
    """Return every line of the store, in the order of their first iterations."""
    found = warehouse.rows(
        f"SELECT line, max(iteration) AS last FROM {EVALUATED} GROUP BY line ORDER BY min(iteration)"
    )
    return [_line(warehouse, row["line"], row["last"]) for row in found]


def policy_name(warehouse: Warehouse, policy_digest: str) -> str:
    """Return a policy's name for people; its digest where no current iteration knows it."""
    found = [line.names[policy_digest] for line in all_lines(warehouse) if policy_digest in line.names]
    return found[0] if found else policy_digest


def environment_of(warehouse: Warehouse, stage: str, scope: str) -> type[Environment[Any]] | None:
    """Return what a stage was played in; None where the settings of its run cannot be read any more."""
    try:
        return environment_class(recorded_settings(recorded_run(warehouse, stage, scope)).environment.name)
    except UserError:
        return None


def _line(warehouse: Warehouse, line: str, last: str) -> Line:
    rows = [
        policy_row(row)
        for row in warehouse.rows(
            f"SELECT * FROM {EVALUATED} WHERE line = ? AND iteration <= ? ORDER BY iteration", [line, last]
        )
    ]
    evaluated = {
        row["iteration"]: row["policy_digest"]
        for row in warehouse.rows(
            "SELECT DISTINCT iteration, policy_digest FROM current_evaluations WHERE side = 'after'"
        )
    }
    candidates = {row.iteration: evaluated[row.iteration] for row in rows}
    demonstrated = warehouse.rows(
        "SELECT demonstrations FROM current_base_models WHERE scope = ?", [rows[0].base_scope]
    )
    base = "cold start" if demonstrated and demonstrated[0]["demonstrations"] else "base"
    names = {rows[0].policy_digest: base}
    refused = _refused(warehouse, line, candidates)
    for number, row in enumerate((row for row in rows if not row.is_baseline), start=1):
        before = [one for one in refused if one.policy.iteration == row.iteration]
        attempt = f", attempt {row.attempt}" if before else ""
        names |= {one.candidate: f"JOSH round {number}, attempt {one.policy.attempt}" for one in before}
        names[candidates[row.iteration]] = f"JOSH round {number}{attempt}"
    return Line(
        tuple(rows), names, candidates, refused, environment_of(warehouse, "evaluation", rows[-1].iteration)
    )


def _refused(warehouse: Warehouse, line: str, candidates: Mapping[str, str]) -> tuple[Refused, ...]:
    """Find the refused attempts of iterations whose candidate is another one by now."""
    found = warehouse.rows(
        "SELECT m.iteration, m.policy_digest, m.reason, e.input_generation AS evaluation, "
        "p.input_generation AS policy FROM promotions m "
        "JOIN generation_inputs e ON e.stage = 'promotion' AND e.scope = m.iteration "
        "AND e.generation = m.generation AND e.input_stage = 'evaluation' AND e.input_scope = m.iteration "
        "JOIN generation_inputs p ON p.stage = 'promotion' AND p.scope = m.iteration "
        "AND p.generation = m.generation AND p.input_stage = 'policy' AND p.input_scope = m.iteration "
        "WHERE NOT m.promoted AND m.line = ? AND list_contains(?, m.iteration) "
        # An attempt that was judged twice is told of once.
        "QUALIFY row_number() OVER (PARTITION BY m.iteration, m.policy_digest ORDER BY m.generation DESC) "
        "= 1 "
        "ORDER BY m.iteration, m.generation",
        [line, list(candidates)],
    )
    return tuple(
        Refused(
            policy=policy_row(
                warehouse.rows(
                    "SELECT * FROM policies WHERE iteration = ? AND generation = ?",
                    [one["iteration"], one["policy"]],
                )[0]
            ),
            candidate=one["policy_digest"],
            evaluation=one["evaluation"],
            reason=one["reason"],
        )
        for one in found
        if one["policy_digest"] != candidates[one["iteration"]]
    )
