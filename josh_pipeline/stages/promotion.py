"""Step ``promotion``: the candidate becomes the next iteration's policy, or is refused.

A refusal is a result, not an error: it is written down, and the next run makes a new attempt.
"""

from dataclasses import dataclass
from typing import Any

import polars as pl

from josh_pipeline.evaluation.gate import Gate
from josh_pipeline.stages.evaluation import GATE, gate_of
from josh_pipeline.stages.policy import PolicyRow, policy_of, successor
from josh_pipeline.stages.step import Step
from josh_pipeline.store.warehouse import Generation, Warehouse


@dataclass(frozen=True)
class PromotionSummary:
    """What was decided.

    Attributes:
        policy_digest: the candidate.
        reason: one sentence, with the numbers that decided.
        next_iteration: the iteration that the promoted policy opens; None after a refusal.
    """

    generation: Generation
    iteration: str
    attempt: int
    promoted: bool
    reason: str
    policy_digest: str
    next_iteration: str | None


def promote(step: Step, iteration: str) -> PromotionSummary:
    """Promote the candidate of an iteration unless its evaluation shows a regression or too much drift.

    A base is the first of its line and always stands: it may have drifted further than a candidate may.

    Raises:
        UserError: the iteration has not been evaluated.
    """
    policy = policy_of(step.warehouse, iteration)
    evaluation = step.require("evaluation", iteration, "benchmark_evaluation")
    inputs = [policy.source, evaluation]
    if policy.is_baseline:
        promoted, reason = True, "The base is the first policy of its line."
        candidate: dict[str, Any] = {
            "policy_digest": policy.policy_digest,
            "adapter_digest": policy.adapter_digest,
            "adapter_path": policy.adapter_path,
            "previous_digest": None,
        }
    else:
        inputs.append(step.require("adapter", iteration, "lora_adapter"))
        gate = stored_gate(step.warehouse, iteration)
        promoted, reason = gate.passed, gate.sentence
        training = step.warehouse.rows("SELECT * FROM current_trainings WHERE iteration = ?", [iteration])[0]
        candidate = {
            "policy_digest": training["policy_digest"],
            "adapter_digest": training["adapter_digest"],
            "adapter_path": training["adapter_path"],
            "previous_digest": policy.policy_digest,
        }
    generation = _write(step, policy, promoted, reason, candidate, inputs)
    return PromotionSummary(
        generation=generation,
        iteration=iteration,
        attempt=policy.attempt,
        promoted=promoted,
        reason=reason,
        policy_digest=candidate["policy_digest"],
        next_iteration=successor(step.warehouse, iteration, policy.line) if promoted else None,
    )


def stored_gate(warehouse: Warehouse, iteration: str) -> Gate:
    """Return what decides on an iteration's candidate, as its evaluation wrote it down."""
    reward = warehouse.rows(
        "SELECT * FROM current_comparisons WHERE iteration = ? AND role = ? AND metric = 'reward'",
        [iteration, GATE],
    )[0]
    drift = warehouse.rows("SELECT * FROM current_drifts WHERE iteration = ?", [iteration])[0]
    return gate_of(reward, drift["drift"], drift["max_drift"])


def _write(
    step: Step,
    policy: PolicyRow,
    promoted: bool,
    reason: str,
    candidate: dict[str, Any],
    inputs: list[Generation],
) -> Generation:
    row = {
        "attempt": policy.attempt,
        "line": policy.line,
        "promoted": promoted,
        "reason": reason,
        "base_digest": policy.base_digest,
        "base_path": policy.base_path,
    } | candidate
    strings = dict.fromkeys(("adapter_digest", "adapter_path", "previous_digest"), pl.String)
    return step.warehouse.publish(
        "promotion",
        policy.iteration,
        step.run_id,
        {"promotions": pl.DataFrame([row], schema_overrides=strings)},
        inputs,
    )
