"""Stage ``evaluation``: the policy before and after, on the same held-out goals."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import polars as pl

from josh_pipeline.core.content import canonical_json
from josh_pipeline.core.environment import Environment, Role, Task
from josh_pipeline.core.errors import UserError
from josh_pipeline.evaluation.benchmark import Episode
from josh_pipeline.evaluation.gate import Gate, drift_sentence, too_far, undisturbed
from josh_pipeline.evaluation.statistics import paired_bootstrap, paired_values
from josh_pipeline.evaluation.summary import Score, score
from josh_pipeline.settings import Settings
from josh_pipeline.stages.drift import drift_frame, drift_record
from josh_pipeline.stages.goals import evaluation_goals
from josh_pipeline.stages.playing import Contender, environment_of, played_episodes
from josh_pipeline.stages.policy import made_with, policy_of
from josh_pipeline.stages.stage import Check, Made, Stage, Step, Verdict
from josh_pipeline.store.layout import Members
from josh_pipeline.store.warehouse import Generation

EVALUATED: tuple[Role, ...] = ("val", "test")
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
    row = policy_of(step.warehouse, iteration)
    inputs = [row.source]
    policy = Contender(row.policy_digest, row.adapter_path, "before")
    players: dict[Side, Contender]
    if row.is_baseline:
        players = {"after": Contender(row.policy_digest, row.adapter_path, "of the base")}
    else:
        trained = made_with(step, row, "adapter")
        inputs.append(trained)
        training = step.written("trainings", trained)[0]
        candidate = Contender(training["policy_digest"], training["adapter_path"], "after")
        players = {"before": policy, "after": candidate}
    environment = environment_of(step, row)
    numbers = {"val": step.settings.evaluation.val_goals, "test": step.settings.evaluation.test_goals}
    goals: dict[Role, list[Task]] = {
        role: evaluation_goals(step.warehouse, row.goals_scope, environment, role, numbers[role]) for role in EVALUATED
    }
    every = [goal for role in goals for goal in goals[role]]
    episodes = {side: played_episodes(step, row, environment, player, every) for side, player in players.items()}
    made = players["after"]
    drift = drift_record(step, row, made.digest, made.adapter_path)
    return _written(step, iteration, environment, goals, episodes, drift, inputs)


def _written(
    step: Step,
    iteration: str,
    environment: Environment[Any],
    goals: dict[Role, list[Task]],
    episodes: dict[Side, list[Episode]],
    drift: dict[str, Any],
    inputs: list[Generation],
) -> Made:
    kind = environment.played
    by_id = {goal.goal_id: goal for role in goals for goal in goals[role]}
    parts: dict[tuple[Side, Role], list[Episode]] = {
        (side, role): [e for e in found if e.goal_id in {goal.goal_id for goal in goals[role]}]
        for side, found in episodes.items()
        for role in goals
    }
    scores = {key: score(found, by_id, environment.fault) for key, found in parts.items()}
    comparisons = compared(step.settings, parts) if "before" in episodes else ()
    evaluations = [
        {"side": side, "role": role, "goal_kind": kind} | score_record(one, parts[side, role])
        for (side, role), one in scores.items()
    ]
    tables = {
        "evaluation_episodes": pl.DataFrame(
            [
                {"side": side, "role": role, "goal_kind": kind, "episode_id": episode.episode_id}
                for (side, role), found in parts.items()
                for episode in found
            ]
        ),
        "evaluations": pl.DataFrame(evaluations),
        "drifts": drift_frame(drift),
    }
    if comparisons:
        tables["comparisons"] = pl.DataFrame([asdict(c) | {"goal_kind": kind} for c in comparisons])
    generation = step.warehouse.publish("evaluation", iteration, step.run_id, tables, inputs)
    reward = next((c for c in comparisons if (c.role, c.metric) == (GATE, "reward")), None)
    gate = gate_of(asdict(reward), drift["drift"], drift["max_drift"]) if reward else None
    after = scores["after", "test"]
    failures = sum(episode.failure is not None for episode in episodes["after"])
    return Made(
        generation,
        version=step.warehouse.content_of(generation),
        rows=len(scores),
        facts={
            "mean reward (test)": round(after.reward, 3),
            "success rate (test)": round(after.success, 3),
            **({} if drift["drift"] is None else {"drift": round(drift["drift"], 3)}),
            **usage_facts(after),
            "failed conversations": failures,
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


def usage_facts(one: Score) -> dict[str, Any]:
    """What asking a policy took."""
    usage = one.usage
    return {
        "agent turns a conversation": round(one.turns, 2),
        "requests": usage.requests,
        "prompt tokens": usage.prompt_tokens,
        "cached prompt tokens": usage.cached_tokens,
        "sampled tokens": usage.completion_tokens,
        "tokens of the user's model": usage.user_prompt_tokens + usage.user_completion_tokens,
        "cost": round(usage.cost, 4),
    }


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


STAGE = Stage(
    name="evaluation",
    asset="benchmark_evaluation",
    about="The policy before and the candidate after, greedy, on the same held-out goals with the same users: "
    "mean reward and success rate with 95 % intervals, and their paired differences; and how far the "
    "candidate has drifted from the foundation. In `000` the base alone.",
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
