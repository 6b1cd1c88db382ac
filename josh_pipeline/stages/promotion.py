"""Stage ``promotion``: the candidate becomes the next iteration's policy, or is refused.

A refusal is a result, not an error: it is written down, and the next run makes a new attempt.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from josh_pipeline.core.errors import UserError
from josh_pipeline.stages.evaluation import stored_gate
from josh_pipeline.stages.policy import candidate_of, made_with, policy_of, resolve_policy, successor
from josh_pipeline.stages.stage import Made, Stage, Step, facts_of
from josh_pipeline.store.warehouse import Generation, Warehouse


def promote(step: Step, iteration: str) -> Made:
    """Promote the candidate of an iteration unless its evaluation shows a regression or too much drift.

    The next iteration resolves its policy when it is run; where it was run before, its policy is written anew.

    A base is the first of its line and always stands: it may have drifted further than a candidate may.

    Raises:
        UserError: the iteration has not been evaluated, or what was evaluated is not its candidate.
    """
    policy = policy_of(step.warehouse, iteration)
    evaluation = made_with(step, policy, "evaluation")
    candidate, inputs = candidate_of(step, policy)
    if policy.is_baseline:
        promoted, reason = True, "The base is the first policy of its line."
    else:
        gate = stored_gate(step.warehouse, evaluation)
        promoted, reason = gate.passed, gate.sentence
    names = ("attempt", "line", "base_digest", "base_path", "policy_digest", "adapter_digest", "adapter_path")
    row = {name: getattr(candidate, name) for name in names} | {
        "promoted": promoted,
        "reason": reason,
        "previous_digest": None if policy.is_baseline else policy.policy_digest,
    }
    require_measured(step, evaluation, row)
    inputs.append(evaluation)
    generation = step.warehouse.publish("promotion", iteration, step.run_id, {"promotions": [row]}, inputs)
    following, was_run = successor(step.warehouse, iteration, policy.line)
    renewed = resolve_policy(step, following) if promoted and was_run else None
    return Made(
        generation,
        version=f"{candidate.policy_digest}-{promoted}",
        rows=1,
        facts=facts_of(row, "promoted", "reason", "attempt", "policy_digest")
        | {"next iteration": following if promoted else "none: not promoted"},
        renewed=(renewed.iteration, renewed.policy_digest) if renewed else None,
    )


def require_measured(step: Step, evaluation: Generation, promotion: Mapping[str, Any]) -> None:
    """Hold an evaluation to the candidate that is decided on: a rerun may have trained another one since.

    Raises:
        UserError: it measured another candidate, or held it against another policy.
    """
    found = measured_digests(step.warehouse.written("evaluations", evaluation))
    if found != decided_digests(promotion):
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


def newest_promotion(warehouse: Warehouse) -> dict[str, Any] | None:
    """Return the row of the last iteration that promoted its policy; None where none has."""
    found = warehouse.rows("SELECT * FROM current_promotions WHERE promoted ORDER BY iteration DESC LIMIT 1")
    return found[0] if found else None


def promoted(step: Step, iteration: str) -> tuple[bool, str]:
    """Return whether an iteration's candidate was promoted, and the reason."""
    row = step.warehouse.rows("SELECT * FROM current_promotions WHERE iteration = ?", [iteration])[0]
    return row["promoted"], row["reason"]


STAGE = Stage(
    name="promotion",
    asset="promotion",
    about="Whether the candidate becomes the policy of the next iteration, which becomes a partition when it is "
    "run; where it was run before, this writes its `policy` anew. If the candidate is refused, that is written "
    "down, and running the iteration again makes a new attempt.",
    tables={"promotions": ("policy_digest",)},
    inputs=("policy", "adapter", "evaluation"),
    make=promote,
    in_baseline=True,
    origins={
        "promotions.line": ["policies.line"],
        "promotions.policy_digest": ["trainings.policy_digest"],
        "promotions.previous_digest": ["policies.policy_digest"],
        "promotions.promoted": ["comparisons.high", "drifts.drift", "drifts.max_drift"],
    },
)
