"""Step ``promotion``: the candidate becomes the next iteration's policy, or is refused.

A refusal is a result, not an error: it is written down, and the next run makes a new attempt.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from josh_pipeline.core.errors import UserError
from josh_pipeline.evaluation.gate import Gate
from josh_pipeline.stages.evaluation import GATE, gate_of
from josh_pipeline.stages.policy import PolicyRow, made_with, policy_of, successor
from josh_pipeline.stages.step import Step, one_at_a_time
from josh_pipeline.store.warehouse import Generation


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


@one_at_a_time
def promote(step: Step, iteration: str) -> PromotionSummary:
    """Promote the candidate of an iteration unless its evaluation shows a regression or too much drift.

    A base is the first of its line and always stands: it may have drifted further than a candidate may.

    Raises:
        UserError: the iteration has not been evaluated, or what was evaluated is not its candidate.
    """
    policy = policy_of(step.warehouse, iteration)
    evaluation = made_with(step, policy, "evaluation")
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
        trained = made_with(step, policy, "adapter")
        inputs.append(trained)
        gate = stored_gate(step, evaluation)
        promoted, reason = gate.passed, gate.sentence
        training = step.written("trainings", trained)[0]
        candidate = {
            "policy_digest": training["policy_digest"],
            "adapter_digest": training["adapter_digest"],
            "adapter_path": training["adapter_path"],
            "previous_digest": policy.policy_digest,
        }
    require_measured(step, evaluation, candidate)
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


def require_measured(step: Step, evaluation: Generation, candidate: dict[str, Any]) -> None:
    """Hold an evaluation to the candidate that is decided on: a rerun may have trained another one since.

    Raises:
        UserError: it measured another candidate, or held it against another policy.
    """
    found = measured_digests(step.written("evaluations", evaluation))
    if found != decided_digests(candidate):
        raise UserError(
            f"benchmark_evaluation of iteration {evaluation.scope} measured another candidate or policy than "
            f"the iteration has now: materialize benchmark_evaluation of iteration {evaluation.scope} again."
        )


def measured_digests(evaluations: Iterable[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """Return which policy was measured on which side, as rows of ``evaluations`` say."""
    return {(row["side"], row["policy_digest"]) for row in evaluations}


def decided_digests(promotion: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return which policy has to be measured on which side for a row of ``promotions``."""
    sides = {("after", promotion["policy_digest"])}
    if promotion["previous_digest"] is not None:
        sides.add(("before", promotion["previous_digest"]))
    return sides


def stored_gate(step: Step, evaluation: Generation) -> Gate:
    """Return what decides on an iteration's candidate, as its evaluation wrote it down."""
    reward = next(
        row
        for row in step.written("comparisons", evaluation)
        if (row["role"], row["metric"]) == (GATE, "reward")
    )
    drift = step.written("drifts", evaluation)[0]
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
