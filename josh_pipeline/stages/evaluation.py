"""Stage ``evaluation``: the policy before and after, on the same held-out goals."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from josh_pipeline.core.content import canonical_json
from josh_pipeline.core.environment import Role
from josh_pipeline.core.errors import UserError
from josh_pipeline.evaluation.benchmark import Episode
from josh_pipeline.evaluation.gate import Gate, drift_sentence, too_far, undisturbed
from josh_pipeline.evaluation.statistics import paired_bootstrap, paired_values
from josh_pipeline.evaluation.summary import Score, score
from josh_pipeline.settings import Settings
from josh_pipeline.stages.drift import drift_record
from josh_pipeline.stages.goals import evaluated_goals
from josh_pipeline.stages.playing import environment_of, played_episodes, usage_facts
from josh_pipeline.stages.policy import PolicyRow, candidate_of, policy_of
from josh_pipeline.stages.stage import Check, Made, Stage, Step, Verdict
from josh_pipeline.stages.tracking import track_scores
from josh_pipeline.store.layout import Members
from josh_pipeline.store.warehouse import Generation, Warehouse

Metric = Literal["reward", "success"]
Side = Literal["before", "after"]
GATE: Role = "val"
"""The role whose goals decide on promotion; nothing else looks at ``test``."""


@dataclass(frozen=True)
class Comparison:
    """After minus before, paired over goals; ``low`` and ``high`` bound the 95 % interval."""

    role: Role
    metric: Metric
    n: int
    before: float
    after: float
    difference: float
    low: float
    high: float


def evaluate_candidate(step: Step, iteration: str) -> Made:
    """Evaluate an iteration's candidate, or the base in a baseline, and hold it against what came before.

    What the store already has is not played again: the 'before' of an iteration is, as a rule, the
    'after' of the one that promoted its policy.

    Raises:
        UserError: the candidate has not been trained, or not from this policy, or too many conversations
            failed, of all or of those that decide on the promotion.
    """
    policy = policy_of(step.warehouse, iteration)
    candidate, inputs = candidate_of(step, policy)
    players: dict[Side, PolicyRow] = {"before": policy, "after": candidate}
    if policy.is_baseline:
        del players["before"]
    environment = environment_of(step, policy)
    goals = evaluated_goals(step, policy.goals_scope, environment)
    every = {goal.goal_id: goal for of_role in goals.values() for goal in of_role}
    parts: dict[tuple[Side, Role], list[Episode]] = {}
    for side, player in players.items():
        shown = "of the base" if policy.is_baseline else side
        episodes = played_episodes(step, player, environment, list(every.values()), shown)
        parts |= {(side, role): [one for one in episodes if every[one.goal_id].role == role] for role in goals}
    drift = drift_record(step, candidate)
    kind = environment.played
    scores = {part: score(found, every, environment.fault) for part, found in parts.items()}
    comparisons = () if policy.is_baseline else compared(step.settings, parts)
    tables = {
        "evaluation_episodes": [
            {"side": side, "role": role, "goal_kind": kind, "episode_id": episode.episode_id}
            for (side, role), found in parts.items()
            for episode in found
        ],
        "evaluations": [
            {"side": side, "role": role, "goal_kind": kind} | score_record(one, parts[side, role])
            for (side, role), one in scores.items()
        ],
        "drifts": [drift],
        "comparisons": [asdict(one) | {"goal_kind": kind} for one in comparisons],
    }
    generation = step.warehouse.publish("evaluation", iteration, step.run_id, tables, inputs)
    gate = stored_gate(step.warehouse, generation) if comparisons else None
    after = scores["after", "test"]
    tracked = {
        f"eval/{role}/{name}": value
        for (side, role), one in scores.items()
        if side == "after"
        for name, value in (("reward", one.reward), ("success", one.success))
    } | ({} if drift["drift"] is None else {"eval/drift": drift["drift"]})
    link = track_scores(step, iteration, not policy.is_baseline, tracked)
    return Made(
        generation,
        version=step.warehouse.content_of(generation),
        rows=len(scores),
        facts={
            "mean reward (test)": round(after.reward, 3),
            "success rate (test)": round(after.success, 3),
            **({} if drift["drift"] is None else {"drift": round(drift["drift"], 3)}),
            "agent turns a conversation": round(after.turns, 2),
            **usage_facts(after.usage),
            "failed conversations": sum(row["failures"] for row in tables["evaluations"] if row["side"] == "after"),
            **link,
        },
        tables={
            "scores": [
                {
                    "side": side, "role": role, "goals": environment.kinds[kind], "n": one.n,
                    "mean reward": one.reward, "success": one.success, "low": one.low, "high": one.high,
                }
                for (side, role), one in scores.items()
            ],
            "paired differences": [asdict(one) for one in comparisons],
            **breakdowns(after),
        },
        verdicts={"no_regression": no_regression(gate), "drift": drift_limited(drift)},
    )  # fmt: skip


def breakdowns(one: Score) -> dict[str, list[dict[str, Any]]]:
    """Where a policy succeeds and fails, as tables."""
    return {
        **{f"by {group}": [asdict(part) for part in parts] for group, parts in one.by.items()},
        "what went wrong first": [{"what": name, "conversations": n} for name, n in one.errors.items()],
        "faulty replies": [{"what": name, "replies": n} for name, n in one.faults.items()],
    }


def no_regression(gate: Gate | None) -> Verdict:
    """Say whether the candidate got worse."""
    if gate is None:
        return Verdict(True, "A base is held against nothing.")
    numbers = {"difference": gate.difference, "low": gate.low, "high": gate.high, "goals": gate.n}
    return Verdict(not gate.regressed, gate.regression_sentence, numbers)


def drift_limited(record: Mapping[str, Any]) -> Verdict:
    """Say whether the policy has drifted too far from the foundation."""
    if record["drift"] is None:
        return Verdict(True, record["reason"])
    numbers = {name: record[name] for name in ("drift", "low", "high", "texts")}
    return Verdict(
        not too_far(record["drift"], record["max_drift"]),
        drift_sentence(record["drift"], record["max_drift"]),
        numbers | {"limit": record["max_drift"], "by kind": json.loads(record["by_kind"])},
    )


def stored_gate(warehouse: Warehouse, evaluation: Generation) -> Gate:
    """Return what decides on an iteration's candidate, as its evaluation wrote it down."""
    comparisons = warehouse.written("comparisons", evaluation)
    reward = next(row for row in comparisons if (row["role"], row["metric"]) == (GATE, "reward"))
    drift = warehouse.written("drifts", evaluation)[0]
    return gate_of(reward, drift["drift"], drift["max_drift"])


def gate_of(reward: Mapping[str, Any], drift: float | None, max_drift: float) -> Gate:
    """Return what the gate looks at.

    Args:
        reward: comparison of the mean reward on the gate's goals, as ``comparisons`` holds it.
    """
    names = ("n", "before", "after", "difference", "low", "high")
    return Gate(**{name: reward[name] for name in names}, drift=drift, max_drift=max_drift)


def score_record(one: Score, episodes: Sequence[Episode]) -> dict[str, Any]:
    """Return the columns of a score that ``evaluations`` and ``benchmarks`` share, and ``failures``."""
    return {
        "policy_digest": one.policy,
        "n": one.n,
        "mean_reward": one.reward,
        "success_rate": one.success,
        "success_low": one.low,
        "success_high": one.high,
        "failures": sum(episode.failure is not None for episode in episodes),
        "details": canonical_json(asdict(one)),
    }


def compared(settings: Settings, parts: Mapping[tuple[Side, Role], Sequence[Episode]]) -> tuple[Comparison, ...]:
    """Compare both sides on each role's goals, pair by pair.

    Raises:
        UserError: something else than the policy broke too many of the conversations that decide.
    """
    roles: tuple[Role, ...] = (GATE, "test")
    metrics: tuple[Metric, ...] = ("reward", "success")
    sides = {role: (list(parts["before", role]), list(parts["after", role])) for role in roles}
    # A server that failed on one side only must neither refuse a candidate nor hide that it got worse.
    held = len(sides[GATE][0])
    sides[GATE] = undisturbed(*sides[GATE])
    broken = held - len(sides[GATE][0])
    if broken > settings.search.max_failed_share * held:
        raise UserError(
            f"{broken} of the {held} validation goals, which decide on the promotion, were broken off by "
            "something else than the policy. Mend that and run again: the other conversations are kept."
        )
    return tuple(comparison(settings, role, metric, *sides[role]) for role in roles for metric in metrics)


def comparison(
    settings: Settings, role: Role, metric: Metric, before: Sequence[Episode], after: Sequence[Episode]
) -> Comparison:
    """Compare one figure, goal by goal.

    Raises:
        ValueError: the two sides played different goals.
    """
    old, new = paired_values(*({one.goal_id: float(getattr(one, metric)) for one in side} for side in (before, after)))
    found = paired_bootstrap(old, new, resamples=settings.evaluation.bootstrap)
    means = sum(old) / found.n, sum(new) / found.n
    return Comparison(role, metric, found.n, *means, found.diff, found.low, found.high)


STAGE = Stage(
    name="evaluation",
    asset="benchmark_evaluation",
    about="The policy before and the candidate after, greedy, on the same held-out goals with the same users: "
    "mean reward and success rate with 95 % intervals, and their paired differences; and how far the "
    "candidate has drifted from the foundation.",
    tables={
        "evaluations": ("side", "role", "goal_kind"),
        "comparisons": ("role", "goal_kind", "metric"),
        "drifts": ("policy_digest",),
        "evaluation_episodes": ("side", "role", "goal_kind", "episode_id"),
    },
    inputs=("policy", "adapter"),
    make=evaluate_candidate,
    # Not blocking: promotion has to run to write a refusal down, for it is a result, not an error.
    checks=(
        Check(
            "no_regression",
            "The paired bootstrap on the validation goals does not show that the candidate earns less than "
            "the policy before. A candidate that fails is not promoted.",
        ),
        Check(
            "drift",
            "What the policy changed outside of its task, KL(policy ‖ foundation) on general texts, is within "
            "evaluation.max_drift. A candidate that fails is not promoted; of a base it is only said.",
        ),
    ),
    members=Members("evaluation_episodes", "episode_id", ("episodes",)),
    in_baseline=True,
    origins={
        "episodes.goal_id": ["goals.goal_id"],
        "episodes.policy_digest": ["policies.policy_digest", "trainings.policy_digest"],
        "evaluations.policy_digest": ["policies.policy_digest", "trainings.policy_digest"],
        "drifts.policy_digest": ["policies.policy_digest", "trainings.policy_digest"],
        "drifts.foundation_digest": ["base_models.foundation_digest"],
    },
    kinds=frozenset({"duckdb", "vllm"}),
)
