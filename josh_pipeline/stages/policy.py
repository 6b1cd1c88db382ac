"""Stage ``policy``: what an iteration plays with, and which attempt at it this is."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from josh_pipeline.core.content import content_id
from josh_pipeline.core.errors import UserError
from josh_pipeline.policies.weights import is_checkpoint, require_continuable
from josh_pipeline.stages.runnable import require_runnable
from josh_pipeline.stages.stage import (
    BASELINE,
    BASELINE_ASSET,
    Made,
    Stage,
    Step,
    base_scope,
    corpus_scope,
    facts_of,
    goals_scope,
    iteration_key,
)  # fmt: skip
from josh_pipeline.store.warehouse import Generation, Warehouse

OF_POLICY = ("rollouts", "labels", "preferences", "adapter", "evaluation")
"""What an iteration makes with its policy: stages, in the order in which they are made."""


@dataclass(frozen=True)
class PolicyRow:
    """What an iteration plays with: a row of ``policies``, explained in schema.sql."""

    iteration: str
    generation: int
    policy_digest: str
    kind: Literal["base", "adapter", "weights", "endpoint"]
    attempt: int
    line: str
    predecessor: str | None
    corpus: str
    corpus_digest: str
    corpus_scope: str
    goals_scope: str
    base_scope: str
    base_digest: str
    base_path: str
    adapter_digest: str | None
    adapter_path: str | None
    model: str

    @property
    def is_baseline(self) -> bool:
        """The first of its line: it holds the base's evaluation, the 'before' of the next."""
        return self.predecessor is None

    @property
    def source(self) -> Generation:
        """The generation that the row belongs to."""
        return Generation("policy", self.iteration, self.generation)

    @property
    def identity(self) -> tuple[str, str, int, str]:
        """What has to be the same where rows are used together.

        It has no generation in it: a rerun that changes nothing publishes the same policy again.
        """
        return self.line, self.policy_digest, self.attempt, self.corpus_digest


def line_of(step: Step) -> str:
    """Name the line of iterations that the settings belong to.

    Iterations go on from each other only on the same goals, from the same base, in the same format.
    """
    settings = step.settings
    goals = step.require("goals", goals_scope(settings))
    base = step.require("cold_start", base_scope(settings))
    return content_id("line", goals.scope, base.scope, settings.policy.agent, settings.policy.results)


def store_policy(step: Step, iteration: str) -> Made:
    """Find the policy of an iteration and write it down; see ``resolve_policy``.

    Raises:
        UserError: there is none, or this machine or the settings cannot go on from it.
    """
    require_runnable(step.settings)
    row = resolve_policy(step, iteration)
    require_continuable(adapter_of(step, row.adapter_path), step.settings.training)
    return Made(
        row.source,
        version=row.policy_digest,
        rows=1,
        facts=facts_of(vars(row), "policy_digest", "kind", "attempt", "base_digest", "corpus", "model")
        | {
            "promoted by": row.predecessor or "nothing: this is the base",
            "adapter digest": row.adapter_digest or "none",
        },
    )


def resolve_policy(step: Step, iteration: str) -> PolicyRow:
    """Find the policy of an iteration and write it down.

    It is the policy that the preceding iteration promoted; or the base, where no earlier iteration is of
    the same line. A refused iteration gets a new attempt, any other rerun repeats the attempt it had.

    Raises:
        UserError: the corpus, the base or the preceding iteration is not there, or promoted nothing.
    """
    settings = step.settings
    line = line_of(step)
    goals = step.require("goals", goals_scope(settings))
    cold_start = step.require("cold_start", base_scope(settings))
    base = step.warehouse.written("base_models", cold_start)[0]
    before = predecessor(step.warehouse, iteration, line)
    weights = before or base | {"policy_digest": base["base_digest"], "adapter_digest": None, "adapter_path": None}
    adapter = adapter_of(step, weights["adapter_path"])
    own = "endpoint" if settings.policy.endpoint else "base"
    names = ("policy_digest", "base_digest", "base_path", "adapter_digest", "adapter_path")
    row = {name: weights[name] for name in names} | {
        "kind": "weights" if is_checkpoint(adapter) else "adapter" if adapter else own,
        "attempt": next_attempt(step.warehouse, iteration, line),
        "line": line,
        "predecessor": before["iteration"] if before else None,
        "base_scope": cold_start.scope,
        "model": base["model"],
    }
    inputs = [goals, cold_start]
    if before is not None:
        inputs.append(Generation("promotion", before["iteration"], before["generation"]))
    step.warehouse.publish("policy", iteration, step.run_id, {"policies": [row | played_columns(step)]}, inputs)
    return policy_of(step.warehouse, iteration)


def adapter_of(step: Step, path: str | None) -> Path | None:
    """Return the folder of an adapter of the store; None for a base."""
    return step.home.absolute(path) if path else None


def played_columns(step: Step) -> dict[str, Any]:
    """Return the columns of ``policies`` that say on which goals the settings play."""
    corpus = step.warehouse.written("corpora", step.require("corpus", corpus_scope(step.settings)))[0]
    return {
        "corpus": corpus["name"],
        "corpus_digest": corpus["corpus_digest"],
        "corpus_scope": corpus["scope"],
        "goals_scope": goals_scope(step.settings),
    }


def policy_of(warehouse: Warehouse, iteration: str) -> PolicyRow:
    """Return the policy of an iteration.

    Raises:
        UserError: it has not been resolved.
    """
    found = warehouse.rows("SELECT * FROM current_policies WHERE iteration = ?", [iteration])
    if not found:
        raise UserError(f"Materialize policy of iteration {iteration} first: it is not in the store.")
    return policy_row(found[0])


def round_of(warehouse: Warehouse, policy: PolicyRow) -> int:
    """Return which round of its line an iteration is: how many promotions its policy came through; 0: a baseline."""
    found: int = warehouse.rows(
        "WITH RECURSIVE up(stage, scope, generation) AS (SELECT 'policy', ?, ? UNION ALL "
        "SELECT i.input_stage, i.input_scope, i.input_generation FROM up JOIN generation_inputs i "
        "USING (stage, scope, generation) WHERE i.input_stage IN ('policy', 'promotion')) "
        "SELECT count(*) FILTER (stage = 'promotion') AS n FROM up",
        [policy.iteration, policy.generation],
    )[0]["n"]
    return found


def policy_row(record: Mapping[str, Any]) -> PolicyRow:
    """Read a row of table ``policies``; further columns are ignored."""
    return PolicyRow(**{one.name: record[one.name] for one in fields(PolicyRow)})


def iterating_policy(step: Step, iteration: str) -> PolicyRow:
    """Return the policy of an iteration that rolls out and trains.

    Raises:
        UserError: it has not been resolved, or the iteration holds a baseline only.
    """
    row = policy_of(step.warehouse, iteration)
    if row.is_baseline:
        raise UserError(
            f"Iteration {iteration} holds the evaluation of the base only: take the next one for this, "
            f"and {BASELINE_ASSET} to evaluate the base again."
        )
    return row


def policy_behind(warehouse: Warehouse, generation: Generation) -> PolicyRow | None:
    """Return the policy that a generation of an iteration was made with; None where it is not recorded."""
    found = warehouse.rows(
        "SELECT p.* FROM generation_inputs i JOIN policies p "
        "ON p.iteration = i.input_scope AND p.generation = i.input_generation "
        "WHERE i.stage = ? AND i.scope = ? AND i.generation = ? AND i.input_stage = 'policy'",
        [generation.stage, generation.scope, generation.number],
    )
    return policy_row(found[0]) if found else None


def made_with(step: Step, policy: PolicyRow, stage: str) -> Generation:
    """Return the current generation of a stage of an iteration, made with the policy that it has now.

    Args:
        stage: of ``OF_POLICY``.

    Raises:
        UserError: it has not been written, or was made with another policy or in another attempt.
    """
    generation = step.require(stage, policy.iteration)
    if _is_of(step.warehouse, generation, policy):
        return generation
    before = OF_POLICY[: OF_POLICY.index(stage) + 1]
    current = [step.warehouse.current(one, policy.iteration) for one in before]
    again = [step.asset(one.stage) for one in current if one is not None and not _is_of(step.warehouse, one, policy)]
    listed = " and ".join(filter(None, (", ".join(again[:-1]), again[-1])))
    raise UserError(
        f"{step.asset(stage)} of iteration {policy.iteration} was made with another policy or in another "
        f"attempt than the iteration has now: materialize {listed} of iteration {policy.iteration} again."
    )


def _is_of(warehouse: Warehouse, generation: Generation, policy: PolicyRow) -> bool:
    behind = policy_behind(warehouse, generation)
    return behind is not None and behind.identity == policy.identity


def with_adapter(policy: PolicyRow, training: Mapping[str, Any]) -> PolicyRow:
    """Return a policy as a training left it, of which this is the row of ``trainings``."""
    names = ("policy_digest", "adapter_digest", "adapter_path")
    return replace(policy, **{name: training[name] for name in names})


def candidate_of(step: Step, policy: PolicyRow) -> tuple[PolicyRow, list[Generation]]:
    """Return what an iteration made of its policy, in a baseline the same, and the generations of the two.

    Raises:
        UserError: the candidate has not been trained, or not from this policy.
    """
    if policy.is_baseline:
        return policy, [policy.source]
    trained = made_with(step, policy, "adapter")
    return with_adapter(policy, step.warehouse.written("trainings", trained)[0]), [policy.source, trained]


def predecessor(warehouse: Warehouse, iteration: str, line: str) -> dict[str, Any] | None:
    """Return the promotion that an iteration goes on from; None for the first iteration of a line.

    Raises:
        UserError: an iteration before it has not been done, or did not promote its policy.
    """
    for number in range(int(iteration) - 1, -1, -1):
        key = iteration_key(number)
        policies = warehouse.rows("SELECT line FROM current_policies WHERE iteration = ?", [key])
        if not policies:
            first = BASELINE_ASSET if key == BASELINE else f"iteration {key}"
            raise UserError(f"Materialize {first} before iteration {iteration}, which goes on from it.")
        if policies[0]["line"] == line:
            promotions = warehouse.rows(
                "SELECT * FROM current_promotions WHERE iteration = ? AND line = ?", [key, line]
            )
            if not promotions:
                raise UserError(f"Finish iteration {key}, up to promotion, before {iteration}.")
            if not promotions[0]["promoted"]:
                raise UserError(
                    f"Iteration {key} was not promoted, so {iteration} has nothing to go on from: "
                    f"run {key} again, which makes a new attempt."
                )
            return promotions[0]
    return None


def next_attempt(warehouse: Warehouse, iteration: str, line: str) -> int:
    """Return which attempt comes next: another one after a refusal, else the one there was."""
    found = warehouse.rows(
        "SELECT p.attempt, coalesce(NOT m.promoted, false) AS refused FROM current_policies p "
        "LEFT JOIN current_promotions m ON m.iteration = p.iteration AND m.attempt = p.attempt "
        "AND m.line = p.line WHERE p.iteration = ? AND p.line = ?",
        [iteration, line],
    )
    if not found:
        return 1
    return int(found[0]["attempt"]) + int(found[0]["refused"])


def next_iteration(warehouse: Warehouse, line: str) -> str:
    """Return the iteration that ``josh iterate`` runs next on a line.

    The last one of the line if it is unfinished or was refused, else the one after all iterations.
    """
    of_line = warehouse.rows(
        "SELECT p.iteration, coalesce(m.promoted, false) AS promoted FROM current_policies p "
        "LEFT JOIN current_promotions m ON m.iteration = p.iteration AND m.line = p.line "
        "WHERE p.line = ? ORDER BY p.iteration DESC LIMIT 1",
        [line],
    )
    if of_line and not of_line[0]["promoted"]:
        return str(of_line[0]["iteration"])
    return free_iteration(warehouse)


def free_iteration(warehouse: Warehouse) -> str:
    """Return the first iteration that is of no line yet."""
    last = warehouse.rows("SELECT max(iteration) AS last FROM policies")[0]["last"]
    return BASELINE if last is None else iteration_key(int(last) + 1)


def successor(warehouse: Warehouse, iteration: str, line: str) -> tuple[str, bool]:
    """Return the iteration that goes on from this one, and whether it was run before: else it is a free one."""
    found = warehouse.rows(
        "SELECT min(iteration) AS following FROM current_policies WHERE line = ? AND iteration > ?", [line, iteration]
    )[0]["following"]
    return found or free_iteration(warehouse), found is not None


def baseline_iteration(step: Step) -> str:
    """Return the iteration that holds the base's evaluation for the settings; a free one where it has not been made.

    Raises:
        UserError: the base has not been made.
    """
    found = step.warehouse.rows(
        "SELECT min(iteration) AS first FROM current_policies WHERE line = ? AND predecessor IS NULL", [line_of(step)]
    )[0]["first"]
    return found or free_iteration(step.warehouse)


def coming_iteration(step: Step) -> tuple[str, bool]:
    """Return the iteration that comes next, and whether it is the baseline of its line.

    Raises:
        UserError: the base has not been made.
    """
    line = line_of(step)
    key = next_iteration(step.warehouse, line)
    return key, predecessor(step.warehouse, key, line) is None


STAGE = Stage(
    name="policy",
    asset="policy",
    about="What the iteration plays with: the policy that the preceding iteration promoted, or the base. The loop "
    "closes here: this reads `promotion` of the preceding iteration, which writes it anew when it is run again.",
    tables={"policies": ("policy_digest",)},
    inputs=("goals", "cold_start"),
    earlier=("promotion",),
    make=store_policy,
    in_baseline=True,
    origins={
        "policies.corpus_digest": ["goals.corpus_digest"],
        "policies.base_digest": ["base_models.base_digest"],
        "policies.base_path": ["base_models.base_path"],
        "policies.model": ["base_models.model"],
    },
)
