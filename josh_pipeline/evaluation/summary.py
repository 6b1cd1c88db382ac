"""What a set of episodes says about a policy: the score and its breakdowns."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pydantic import TypeAdapter

from josh_pipeline.core.environment import Task
from josh_pipeline.core.messages import Conversation, answered
from josh_pipeline.core.world import CallRecord
from josh_pipeline.evaluation.benchmark import Episode
from josh_pipeline.evaluation.statistics import pass_hat_k, wilson
from josh_pipeline.search.tree import Usage


@dataclass(frozen=True)
class Breakdown:
    """A share of the benchmark.

    Attributes:
        name: of the group.
        n: goals that have such ground-truth calls.
        reward: mean share of them that was earned.
        success: share of the conversations on these goals in which all of them were earned.
        low, high: 95 % Wilson interval of ``success`` over goals, as in ``Score``.
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
        by: breakdowns, each sorted by name: by what the environment groups calls by (``WantedCall.groups``),
            and by ``tool``.
        errors: what went wrong first in each conversation without success: class to count.
        failures: conversations that policy or user could not go on with: kind to count.
        turns: mean number of agent turns.
        error_turns: share of the turns that used their requests up without speaking.
        calls: executed calls.
        faulty_calls: share of them that was refused with an error.
        faults: replies that could not be carried out: kind to count; see ``Environment.fault``, and
            ``unreadable reply`` where not even a call could be read.
        pass_k: pass^1, pass^2, ... up to ``trials``.
        usage: what the conversations cost together; their seconds overlap.
    """

    policy: str
    n: int
    trials: int
    reward: float
    success: float
    low: float
    high: float
    by: Mapping[str, tuple[Breakdown, ...]]
    errors: Mapping[str, int]
    failures: Mapping[str, int]
    turns: float
    error_turns: float
    calls: int
    faulty_calls: float
    faults: Mapping[str, int]
    pass_k: tuple[float, ...]
    usage: Usage


_SCORES = TypeAdapter(Score)


def score_from(details: str) -> Score:
    """Read a score as ``evaluations`` and ``benchmarks`` keep it: JSON."""
    return _SCORES.validate_json(details)


def score(episodes: Sequence[Episode], goals: Mapping[str, Task], fault_of: Callable[[CallRecord], str]) -> Score:
    """Summarise the episodes of one policy.

    Args:
        episodes: every goal with the same number of trials.
        goals: by goal id; all goals of the episodes.
        fault_of: ``Environment.fault``.

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
        by={
            group: _breakdowns((_shares(e, goals[e.goal_id], group) for e in episodes), trials)
            for group in _groups(goals[goal] for goal in per_goal)
        },
        errors=_counted(error_class(e, goals[e.goal_id]) for e in episodes if not e.success),
        failures=_counted(e.failure for e in episodes if e.failure is not None),
        turns=turns / len(episodes),
        error_turns=sum(e.error_turns for e in episodes) / turns if turns else 0.0,
        calls=len(calls),
        faulty_calls=sum(call.error for call in calls) / len(calls) if calls else 0.0,
        faults=_counted(kind for episode in episodes for kind in _faults(episode, fault_of)),
        pass_k=tuple(pass_hat_k([won[goal] for goal in per_goal], trials, k + 1) for k in range(trials)),
        usage=sum((episode.usage for episode in episodes), start=Usage()),
    )


def error_class(episode: Episode, goal: Task) -> str:
    """Name what went wrong first in a conversation without success.

    Returns:
        ``failed: <kind>`` where policy or user could not answer; else, for the first ground-truth call
        that was not earned, ``<its label> not made`` where its tool was never called, or ``<its label> wrong``;
        ``not solved`` where all were.
    """
    if episode.failure is not None:
        return f"failed: {episode.failure}"
    missed = next((call for index, call in enumerate(goal.calls) if index not in episode.earned), None)
    if missed is None:
        return "not solved"
    made = any(call.tool == missed.tool for call in episode.calls)
    return f"{missed.label} wrong" if made else f"{missed.label} not made"


def _faults(episode: Episode, fault_of: Callable[[CallRecord], str]) -> Iterable[str]:
    yield from (fault_of(call) for call in episode.calls if call.error)
    yield from ["unreadable reply"] * unreadable_replies(episode.messages)


def unreadable_replies(conversation: Conversation) -> int:
    """Count the agent's messages that hold no call and were answered as if they tried one."""
    return sum(
        message.role == "assistant" and not message.tool_calls and answered(following)
        for message, following in pairwise(conversation)
    )


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())


def _groups(goals: Iterable[Task]) -> list[str]:
    """Names of the breakdowns: the environment's, then ``tool``; none where milestones are no calls."""
    return list(dict.fromkeys(name for goal in goals for call in goal.calls for name in (*call.groups, "tool")))


def _shares(episode: Episode, goal: Task, group: str) -> dict[str, float]:
    """Share of the wanted calls that was earned, by their name in a group."""
    names = [call.tool if group == "tool" else call.groups.get(group, "other") for call in goal.calls]
    earned = Counter(name for index, name in enumerate(names) if index in episode.earned)
    return {name: earned[name] / count for name, count in Counter(names).items()}


def _breakdowns(shares: Iterable[Mapping[str, float]], trials: int) -> tuple[Breakdown, ...]:
    """Average shares over conversations; as every goal has equally many, that averages over goals too."""
    values: dict[str, list[float]] = defaultdict(list)
    for episode in shares:
        for name, share in episode.items():
            values[name].append(share)
    found = []
    for name, of_name in sorted(values.items()):
        n, success = len(of_name) // trials, of_name.count(1.0) / len(of_name)
        interval = wilson(success * n, n)
        found.append(Breakdown(name, n, sum(of_name) / len(of_name), success, interval.low, interval.high))
    return tuple(found)
