"""What a set of episodes says about a policy: the score and its breakdowns."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from josh_pipeline.evaluation.episode import Episode
from josh_pipeline.evaluation.statistics import pass_hat_k, wilson
from josh_pipeline.toolwoz.goal import Goal


@dataclass(frozen=True)
class Breakdown:
    """A share of the benchmark.

    Attributes:
        name: a domain or a tool.
        n: conversations whose goal has that domain or tool.
        reward: mean share of that domain's (that tool's) ground-truth calls that was earned.
        success: share of the conversations in which all of them were earned.
        low, high: 95 % Wilson interval of ``success``.
    """

    name: str
    n: int
    reward: float
    success: float
    low: float
    high: float


@dataclass(frozen=True)
class Score:
    """A policy on a set of goals.

    Attributes:
        policy: its digest.
        n: goals.
        trials: conversations a goal.
        reward: mean reward.
        success: share of conversations with reward 1.
        low, high: 95 % Wilson interval of ``success`` over goals; with several trials it stays that of
            ``n`` goals, since trials of one goal are not independent.
        by_domain, by_tool: breakdowns, sorted by name.
        errors: what went wrong first in each conversation without success: class to count.
        turns: mean number of agent turns.
        error_turns: share of the turns that used their requests up without speaking.
        faulty_calls: share of the calls that were refused with an error.
        pass_k: pass^1, pass^2, ... up to ``trials``.
    """

    policy: str
    n: int
    trials: int
    reward: float
    success: float
    low: float
    high: float
    by_domain: tuple[Breakdown, ...]
    by_tool: tuple[Breakdown, ...]
    errors: Mapping[str, int]
    turns: float
    error_turns: float
    faulty_calls: float
    pass_k: tuple[float, ...]


def score(episodes: Sequence[Episode], goals: Mapping[str, Goal]) -> Score:
    """Summarise the episodes of one policy.

    Args:
        episodes: every goal with the same number of trials.
        goals: by goal id; all goals of the episodes.

    Raises:
        ValueError: there are no episodes, they are of several policies, or trials differ in number.
    """
    policies = {episode.policy_digest for episode in episodes}
    per_goal = Counter(episode.goal_id for episode in episodes)
    if len(policies) != 1 or len(set(per_goal.values())) != 1:
        raise ValueError(
            f"{len(episodes)} episodes of {len(policies)} policies with "
            f"{sorted(set(per_goal.values()))} trials a goal have no one score"
        )
    n, trials = len(per_goal), next(iter(per_goal.values()))
    won = Counter(episode.goal_id for episode in episodes if episode.success)
    success = won.total() / len(episodes)
    interval = wilson(success * n, n)
    calls = [call for episode in episodes for call in episode.calls]
    turns = sum(episode.turns for episode in episodes)
    return Score(
        policy=policies.pop(),
        n=n,
        trials=trials,
        reward=sum(episode.reward for episode in episodes) / len(episodes),
        success=success,
        low=interval.low,
        high=interval.high,
        by_domain=_breakdowns(_shares(episode, goals[episode.goal_id], "domain") for episode in episodes),
        by_tool=_breakdowns(_shares(episode, goals[episode.goal_id], "tool") for episode in episodes),
        errors=dict(
            Counter(
                error_class(episode, goals[episode.goal_id]) for episode in episodes if not episode.success
            ).most_common()
        ),
        turns=turns / len(episodes),
        error_turns=sum(e.error_turns for e in episodes) / turns if turns else 0.0,
        faulty_calls=sum("error" in call.payload for call in calls) / len(calls) if calls else 0.0,
        pass_k=tuple(pass_hat_k([won[goal] for goal in per_goal], trials, k + 1) for k in range(trials)),
    )


def error_class(episode: Episode, goal: Goal) -> str:
    """Name what went wrong first in a conversation without success.

    Returns:
        ``failed: <kind>`` where policy or user could not answer; else, for the first ground-truth call
        that was not earned, ``<search or booking> not made`` where its tool was never called, or
        ``<search or booking> wrong``.
    """
    if episode.failure is not None:
        return f"failed: {episode.failure}"
    missed = next(call for index, call in enumerate(goal.calls) if index not in episode.earned)
    what = "booking" if missed.tool.startswith("book_") else "search"
    made = any(call.tool == missed.tool for call in episode.calls)
    return f"{what} wrong" if made else f"{what} not made"


def _shares(episode: Episode, goal: Goal, by: str) -> dict[str, float]:
    """Share of the ground-truth calls that was earned, by domain or tool."""
    names = [call.tool if by == "tool" else call.tool.split("_", 1)[1] for call in goal.calls]
    earned = Counter(name for index, name in enumerate(names) if index in episode.earned)
    return {name: earned[name] / count for name, count in Counter(names).items()}


def _breakdowns(shares: Iterable[Mapping[str, float]]) -> tuple[Breakdown, ...]:
    values: dict[str, list[float]] = {}
    for episode in shares:
        for name, share in episode.items():
            values.setdefault(name, []).append(share)
    found = []
    for name in sorted(values):
        n, won = len(values[name]), sum(share == 1.0 for share in values[name])
        interval = wilson(won, n)
        found.append(Breakdown(name, n, sum(values[name]) / n, won / n, interval.low, interval.high))
    return tuple(found)
