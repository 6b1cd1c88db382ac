"""Step ``policy``: what an iteration plays with, and which attempt at it this is."""

from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.ids import content_id
from josh_pipeline.stages.scopes import base_scope, corpus_scope, goals_scope
from josh_pipeline.stages.step import BASELINE, Step, iteration_key, one_at_a_time
from josh_pipeline.store.warehouse import Generation, Warehouse

ASSETS = {
    "rollouts": "beam_rollouts",
    "labels": "reward_labels",
    "preferences": "preference_pairs",
    "adapter": "lora_adapter",
    "evaluation": "benchmark_evaluation",
}
"""What an iteration makes with its policy: stage to asset, in the order in which they are made."""


@dataclass(frozen=True)
class PolicyRow:
    """What an iteration plays with: a row of ``policies``, explained in schema.sql."""

    iteration: str
    generation: int
    policy_digest: str
    kind: Literal["base", "adapter", "endpoint"]
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


def policy_digest(base: str, adapter: str | None) -> str:
    """Name a policy by base and adapter; a base alone is named by its own digest."""
    return base if adapter is None else content_id("policy", base, adapter)


def line_of(step: Step) -> str:
    """Name the line of iterations that the settings belong to.

    Iterations go on from each other only on the same goals, from the same base, in the same format.
    """
    settings = step.settings
    goals = step.require("goals", goals_scope(settings), "toolwoz_goals")
    base = step.require("cold_start", base_scope(settings), "cold_start")
    return content_id("line", goals.scope, base.scope, settings.policy.agent, settings.policy.results)


@one_at_a_time
def resolve_policy(step: Step, iteration: str) -> PolicyRow:
    """Find the policy of an iteration and write it down.

    It is the policy that the preceding iteration promoted; or the base, where no earlier iteration is of
    the same line. A refused iteration gets a new attempt, any other rerun repeats the attempt it had.

    Raises:
        UserError: the corpus, the base or the preceding iteration is not there, or promoted nothing.
    """
    settings = step.settings
    line = line_of(step)
    base = step.warehouse.rows("SELECT * FROM current_base_models WHERE scope = ?", [base_scope(settings)])[0]
    corpus = step.warehouse.rows(
        "SELECT * FROM current_corpora WHERE scope = ?", [corpus_scope(settings.corpus)]
    )[0]
    before = predecessor(step.warehouse, iteration, line)
    if before is None:
        digest, adapter_digest, adapter_path = base["base_digest"], None, None
        base_digest, base_path = base["base_digest"], base["base_path"]
    else:
        digest, adapter_digest, adapter_path = (
            before["policy_digest"], before["adapter_digest"], before["adapter_path"],
        )  # fmt: skip
        base_digest, base_path = before["base_digest"], before["base_path"]
    row = {
        "policy_digest": digest,
        "kind": "adapter" if adapter_digest else "endpoint" if settings.policy.endpoint else "base",
        "attempt": next_attempt(step.warehouse, iteration, line),
        "line": line,
        "predecessor": before["iteration"] if before else None,
        "corpus": corpus["name"],
        "corpus_digest": corpus["corpus_digest"],
        "corpus_scope": corpus["scope"],
        "goals_scope": goals_scope(settings),
        "base_scope": base["scope"],
        "base_digest": base_digest,
        "base_path": base_path,
        "adapter_digest": adapter_digest,
        "adapter_path": adapter_path,
        "model": base["model"],
    }
    strings = {"predecessor": pl.String, "adapter_digest": pl.String, "adapter_path": pl.String}
    inputs = [
        step.require("goals", goals_scope(settings), "toolwoz_goals"),
        Generation("cold_start", base["scope"], base["generation"]),
    ]
    if before is not None:
        inputs.append(Generation("promotion", before["iteration"], before["generation"]))
    step.warehouse.publish(
        "policy", iteration, step.run_id, {"policies": pl.DataFrame([row], schema_overrides=strings)}, inputs
    )
    return policy_of(step.warehouse, iteration)


def policy_of(warehouse: Warehouse, iteration: str) -> PolicyRow:
    """Return the policy of an iteration.

    Raises:
        UserError: it has not been resolved.
    """
    found = warehouse.rows("SELECT * FROM current_policies WHERE iteration = ?", [iteration])
    if not found:
        raise UserError(f"Materialize policy of iteration {iteration} first: it is not in the store.")
    return PolicyRow(**found[0])


def iterating_policy(step: Step, iteration: str) -> PolicyRow:
    """Return the policy of an iteration that rolls out and trains.

    Raises:
        UserError: it has not been resolved, or the iteration holds a baseline only.
    """
    row = policy_of(step.warehouse, iteration)
    if row.is_baseline:
        raise UserError(
            f"Iteration {iteration} holds the evaluation of the base only: of it materialize policy, "
            "benchmark_evaluation and promotion, and take the next one for the rest."
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
    return PolicyRow(**found[0]) if found else None


def made_with(step: Step, policy: PolicyRow, stage: str) -> Generation:
    """Return the current generation of a stage of an iteration, made with the policy that it has now.

    Args:
        stage: a key of ``ASSETS``.

    Raises:
        UserError: it has not been written, or was made with another policy or in another attempt.
    """
    generation = step.require(stage, policy.iteration, ASSETS[stage])
    if _is_of(step.warehouse, generation, policy):
        return generation
    again = [ASSETS[one] for one in _stale(step.warehouse, policy, stage)]
    listed = " and ".join(filter(None, (", ".join(again[:-1]), again[-1])))
    raise UserError(
        f"{ASSETS[stage]} of iteration {policy.iteration} was made with another policy or in another attempt "
        f"than the iteration has now: materialize {listed} of iteration {policy.iteration} again."
    )


def _stale(warehouse: Warehouse, policy: PolicyRow, last: str) -> list[str]:
    """Return the stages up to ``last`` whose current rows were made with another policy."""
    stages = list(ASSETS)[: list(ASSETS).index(last) + 1]
    current = [warehouse.current(stage, policy.iteration) for stage in stages]
    return [one.stage for one in current if one is not None and not _is_of(warehouse, one, policy)]


def _is_of(warehouse: Warehouse, generation: Generation, policy: PolicyRow) -> bool:
    behind = policy_behind(warehouse, generation)
    return behind is not None and behind.identity == policy.identity


def predecessor(warehouse: Warehouse, iteration: str, line: str) -> dict[str, Any] | None:
    """Return the promotion that an iteration goes on from; None for the first iteration of a line.

    Raises:
        UserError: an iteration before it has not been done, or did not promote its policy.
    """
    for number in range(int(iteration) - 1, -1, -1):
        key = iteration_key(number)
        policies = warehouse.rows("SELECT line FROM current_policies WHERE iteration = ?", [key])
        if not policies:
            raise UserError(f"Materialize iteration {key} before {iteration}, which goes on from it.")
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
    last = warehouse.rows("SELECT max(iteration) AS last FROM policies")[0]["last"]
    return BASELINE if last is None else iteration_key(int(last) + 1)


def successor(warehouse: Warehouse, iteration: str, line: str) -> str:
    """Return the iteration that goes on from this one: the next of its line, else the first free key."""
    found = warehouse.rows(
        "SELECT min(iteration) FILTER (line = $line AND iteration > $iteration) AS following, "
        "max(iteration) AS last FROM current_policies",
        {"line": line, "iteration": iteration},
    )[0]
    return found["following"] or iteration_key(int(found["last"]) + 1)
