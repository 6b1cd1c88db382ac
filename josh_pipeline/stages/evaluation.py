"""Step ``benchmark_evaluation``: the policy before and after, on the same held-out goals."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import polars as pl

from josh_pipeline.core.errors import ErrorKind, UserError
from josh_pipeline.core.ids import canonical_json
from josh_pipeline.environments.toolwoz.goal import Goal
from josh_pipeline.environments.toolwoz.roles import Role
from josh_pipeline.evaluation.benchmark import Episode
from josh_pipeline.evaluation.drift import Drift
from josh_pipeline.evaluation.gate import Gate
from josh_pipeline.evaluation.statistics import paired_bootstrap, paired_values
from josh_pipeline.evaluation.summary import Score, score
from josh_pipeline.stages.drift import drift_frame, drift_of, drift_record
from josh_pipeline.stages.episodes import Player, played
from josh_pipeline.stages.goals import played_kind
from josh_pipeline.stages.policy import PolicyRow, made_with, policy_of
from josh_pipeline.stages.selection import evaluation_goals
from josh_pipeline.stages.step import Step, one_at_a_time
from josh_pipeline.store.warehouse import Generation

NOT_THE_POLICY: tuple[ErrorKind, ...] = ("endpoint", "timeout", "user", "world", "budget")
"""Failures that say nothing about a policy's words."""

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


@dataclass(frozen=True)
class EvaluationSummary:
    """What was measured.

    Attributes:
        scores: by (side, role); a baseline has no ``before``.
        comparisons: none for a baseline.
        failures: conversations that failed, of the policy that is evaluated.
        drift: of the policy that is evaluated, from the foundation; None with its reason for an endpoint's.
        max_drift: the limit in the settings.
    """

    generation: Generation
    kind: str
    scores: dict[tuple[Side, Role], Score]
    comparisons: tuple[Comparison, ...]
    failures: int
    drift: Drift | None
    no_drift: str | None
    max_drift: float

    @property
    def gate(self) -> Gate | None:
        """What decides on promotion; None for a baseline, which is held against nothing."""
        found = self.compared(GATE, "reward")
        drift = self.drift.mean if self.drift else None
        return gate_of(asdict(found), drift, self.max_drift) if found else None

    def compared(self, role: Role, metric: str) -> Comparison | None:
        """Return one comparison."""
        return next((c for c in self.comparisons if c.role == role and c.metric == metric), None)


@one_at_a_time
def evaluate_candidate(step: Step, iteration: str) -> EvaluationSummary:
    """Evaluate an iteration's candidate, or the base in a baseline, and hold it against what came before.

    What the store already has is not played again: the 'before' of an iteration is, as a rule, the
    'after' of the one that promoted its policy.

    Raises:
        UserError: the candidate has not been trained, or not from this policy, or too many conversations
            failed, of all or of those that decide on the promotion.
    """
    row = policy_of(step.warehouse, iteration)
    inputs = [row.source]
    policy = Player(row.policy_digest, row.adapter_path, "before")
    players: dict[Side, Player]
    if row.is_baseline:
        players = {"after": Player(row.policy_digest, row.adapter_path, "of the base")}
    else:
        trained = made_with(step, row, "adapter")
        inputs.append(trained)
        training = step.written("trainings", trained)[0]
        candidate = Player(training["policy_digest"], training["adapter_path"], "after")
        players = {"before": policy, "after": candidate}
    goals = _goals(step, row)
    episodes = {
        side: played(step, row, player, [goal for role in goals for goal in goals[role]])
        for side, player in players.items()
    }
    made = players["after"]
    drift = drift_record(step, row, made.digest, made.adapter_path)
    return _written(step, iteration, goals, episodes, drift, inputs)


def _goals(step: Step, row: PolicyRow) -> dict[Role, list[Goal]]:
    numbers: dict[Role, int] = {
        "val": step.settings.evaluation.val_goals,
        "test": step.settings.evaluation.test_goals,
    }
    return {
        role: evaluation_goals(step.warehouse, row.goals_scope, played_kind(step), role, number)
        for role, number in numbers.items()
    }


def _written(
    step: Step,
    iteration: str,
    goals: dict[Role, list[Goal]],
    episodes: dict[Side, list[Episode]],
    drift: dict[str, Any],
    inputs: list[Generation],
) -> EvaluationSummary:
    kind = played_kind(step)
    by_id = {goal.goal_id: goal for role in goals for goal in goals[role]}
    parts: dict[tuple[Side, Role], list[Episode]] = {
        (side, role): [e for e in found if e.goal_id in {goal.goal_id for goal in goals[role]}]
        for side, found in episodes.items()
        for role in goals
    }
    scores = {key: score(found, by_id) for key, found in parts.items()}
    comparisons = compared(step, parts) if "before" in episodes else ()
    members = [
        {"side": side, "role": role, "goal_kind": kind, "episode_id": episode.episode_id}
        for (side, role), found in parts.items()
        for episode in found
    ]
    evaluations = [
        {"side": side, "role": role, "goal_kind": kind} | score_record(one, parts[side, role])
        for (side, role), one in scores.items()
    ]
    tables = {
        "evaluation_episodes": pl.DataFrame(members),
        "evaluations": pl.DataFrame(evaluations),
        "drifts": drift_frame(drift),
    }
    if comparisons:
        tables["comparisons"] = pl.DataFrame([asdict(c) | {"goal_kind": kind} for c in comparisons])
    generation = step.warehouse.publish("evaluation", iteration, step.run_id, tables, inputs)
    failures = sum(episode.failure is not None for episode in episodes["after"])
    return EvaluationSummary(
        generation=generation,
        kind=kind,
        scores=scores,
        comparisons=comparisons,
        failures=failures,
        drift=drift_of(drift),
        no_drift=drift["reason"],
        max_drift=drift["max_drift"],
    )


def gate_of(reward: Mapping[str, Any], drift: float | None, max_drift: float) -> Gate:
    """Return what the gate looks at.

    Args:
        reward: comparison of the mean reward on the gate's goals, as ``comparisons`` holds it.
    """
    names = ("n", "before", "after", "difference", "low", "high")
    return Gate(**{name: reward[name] for name in names}, drift=drift, max_drift=max_drift)


def score_record(one: Score, episodes: Sequence[Episode]) -> dict[str, object]:
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


def compared(step: Step, parts: dict[tuple[Side, Role], list[Episode]]) -> tuple[Comparison, ...]:
    """Compare both sides on each role's goals, pair by pair."""
    roles: tuple[Role, ...] = (GATE, "test")
    metrics: tuple[Metric, ...] = ("reward", "success")
    sides = {role: (parts["before", role], parts["after", role]) for role in roles}
    # A server that failed on one side only must neither refuse a candidate nor hide that it got worse.
    held = len(sides[GATE][0])
    sides[GATE] = undisturbed(*sides[GATE])
    broken = held - len(sides[GATE][0])
    if broken > step.settings.search.max_failed_share * held:
        raise UserError(
            f"{broken} of the {held} validation goals, which decide on the promotion, were broken off by "
            "something else than the policy. Mend that and run again: the other conversations are kept."
        )
    return tuple(comparison(step, role, metric, *sides[role]) for role in roles for metric in metrics)


def undisturbed(before: Sequence[Episode], after: Sequence[Episode]) -> tuple[list[Episode], list[Episode]]:
    """Leave out the goals whose conversation, on either side, something else than the policy broke off."""
    broken = {one.goal_id for one in (*before, *after) if one.failure in NOT_THE_POLICY}
    first, second = ([one for one in side if one.goal_id not in broken] for side in (before, after))
    return first, second


def comparison(
    step: Step, role: Role, metric: Metric, before: Sequence[Episode], after: Sequence[Episode]
) -> Comparison:
    """Compare one figure, goal by goal.

    Raises:
        ValueError: the two sides played different goals.
    """
    old, new = paired_values(
        *({one.goal_id: float(getattr(one, metric)) for one in side} for side in (before, after))
    )
    found = paired_bootstrap(old, new, resamples=step.settings.evaluation.bootstrap)
    return Comparison(
        role=role,
        metric=metric,
        n=found.n,
        before=sum(old) / found.n,
        after=sum(new) / found.n,
        difference=found.diff,
        low=found.low,
        high=found.high,
    )
