"""The iterations that a report tells of: one line, from its base to the round asked for, with names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from josh_pipeline.core.environment import Environment
from josh_pipeline.core.errors import UserError
from josh_pipeline.environments.registry import environment_class
from josh_pipeline.report.words import GoalKind, goal_kind
from josh_pipeline.stages.policy import PolicyRow, policy_row
from josh_pipeline.stages.stage import recorded_run, recorded_settings
from josh_pipeline.store.warehouse import Warehouse

EVALUATED = (
    "(SELECT p.*, i.generation AS evaluation, e.policy_digest AS candidate FROM generation_inputs i "
    "JOIN policies p ON p.iteration = i.input_scope AND p.generation = i.input_generation "
    "JOIN (SELECT DISTINCT iteration, generation, policy_digest FROM evaluations WHERE side = 'after') e "
    "ON e.iteration = i.scope AND e.generation = i.generation "
    "WHERE i.stage = 'evaluation' AND i.input_stage = 'policy' AND i.scope = p.iteration AND i.current)"
)
"""Policies as the current evaluations found them: while another attempt runs, the iteration's is another."""


@dataclass(frozen=True)
class Attempt:
    """An attempt at an iteration, evaluated.

    Attributes:
        policy: what it played with.
        candidate: digest of what it made; the base for a baseline.
        evaluation: generation of its evaluation.
        refused: why the gate refused it, of one that a later attempt replaced; None for the one that stands.
    """

    policy: PolicyRow
    candidate: str
    evaluation: int
    refused: str | None = None


@dataclass(frozen=True)
class Line:
    """Iterations that go on from each other, all of them evaluated.

    Attributes:
        attempts: in order, those of an iteration together, the baseline first.
        names: policy digest to its name for people: ``cold start`` (``base`` where nothing was
            demonstrated), ``JOSH round 1``, ... (``JOSH round 1, attempt 2`` where one before was refused).
        environment: what the last iteration was played in; None where its settings cannot be read.
    """

    attempts: tuple[Attempt, ...]
    names: Mapping[str, str]
    environment: type[Environment[Any]] | None

    @property
    def standing(self) -> tuple[Attempt, ...]:
        """The attempts that were not replaced, one an iteration."""
        return tuple(one for one in self.attempts if one.refused is None)

    @property
    def rows(self) -> tuple[PolicyRow, ...]:
        """The iterations' policies as they were evaluated, the baseline first."""
        return tuple(one.policy for one in self.standing)

    @property
    def rounds(self) -> tuple[PolicyRow, ...]:
        """The iterations that trained something."""
        return tuple(row for row in self.rows if not row.is_baseline)

    @property
    def candidates(self) -> Mapping[str, str]:
        """Iteration to the digest of the policy that it made; the base for the baseline."""
        return {one.policy.iteration: one.candidate for one in self.standing}

    def name_of(self, policy_digest: str) -> str:
        """A policy's name; of one that no iteration of the line made, its digest."""
        return self.names.get(policy_digest, policy_digest)

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
    line_of = {
        row["iteration"]: row["line"]
        for row in warehouse.rows(f"SELECT iteration, line FROM {EVALUATED} ORDER BY iteration")
    }
    if not line_of:
        raise UserError("Nothing has been evaluated in this home yet: run josh iterate first.")
    last = max(line_of) if iteration is None else iteration
    if last not in line_of:
        known = ", ".join(line_of)
        raise UserError(f"Iteration {last} has not been evaluated in this home: take one of {known}, or finish it.")
    return _line(warehouse, line_of[last], last)


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
    found = warehouse.rows(f"SELECT * FROM {EVALUATED} WHERE line = ? AND iteration <= ?", [line, last])
    standing = [Attempt(policy_row(row), row["candidate"], row["evaluation"]) for row in found]
    candidates = {one.policy.iteration: one.candidate for one in standing}
    refused = _refused(warehouse, line, candidates)
    attempts = sorted([*refused, *standing], key=lambda one: (one.policy.iteration, one.policy.attempt))
    first = attempts[0].policy
    demonstrated = warehouse.rows("SELECT demonstrations FROM current_base_models WHERE scope = ?", [first.base_scope])
    base = "cold start" if demonstrated and demonstrated[0]["demonstrations"] else "base"
    rounds = sorted(one.policy.iteration for one in standing if not one.policy.is_baseline)
    retried = {one.policy.iteration for one in refused}
    names = {first.policy_digest: base}
    for one in attempts:
        if not one.policy.is_baseline:
            key = one.policy.iteration
            attempt = f", attempt {one.policy.attempt}" if key in retried else ""
            names[one.candidate] = f"JOSH round {rounds.index(key) + 1}{attempt}"
    return Line(tuple(attempts), names, environment_of(warehouse, "evaluation", last))


def _refused(warehouse: Warehouse, line: str, candidates: Mapping[str, str]) -> list[Attempt]:
    """Find the refused attempts of iterations whose candidate is another one by now."""
    found = warehouse.rows(
        "SELECT p.*, m.policy_digest AS candidate, m.reason, e.input_generation AS evaluation "
        "FROM promotions m "
        "JOIN generation_inputs e ON e.stage = 'promotion' AND e.scope = m.iteration "
        "AND e.generation = m.generation AND e.input_stage = 'evaluation' AND e.input_scope = m.iteration "
        "JOIN generation_inputs i ON i.stage = 'promotion' AND i.scope = m.iteration "
        "AND i.generation = m.generation AND i.input_stage = 'policy' AND i.input_scope = m.iteration "
        "JOIN policies p ON p.iteration = m.iteration AND p.generation = i.input_generation "
        "WHERE NOT m.promoted AND m.line = ? AND list_contains(?, m.iteration) "
        # An attempt that was judged twice is told of once.
        "QUALIFY row_number() OVER (PARTITION BY m.iteration, m.policy_digest ORDER BY m.generation DESC) "
        "= 1 ORDER BY m.generation",
        [line, list(candidates)],
    )
    return [
        Attempt(policy_row(one), one["candidate"], one["evaluation"], one["reason"])
        for one in found
        if one["candidate"] != candidates[one["iteration"]]
    ]
