"""What a set of episodes says about a policy: the score and its breakdowns."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from josh_pipeline.dialogue.messages import Conversation, answered
from josh_pipeline.evaluation.episode import Episode
from josh_pipeline.evaluation.statistics import pass_hat_k, wilson
from josh_pipeline.search.tree import CallRecord, Usage
from josh_pipeline.toolwoz.goal import Goal
from josh_pipeline.toolwoz.tools import TOOL_BY_NAME


@dataclass(frozen=True)
class Breakdown:
    """A share of the benchmark.

    Attributes:
        name: a domain, a tool, or ``search`` or ``booking``.
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
        by_domain, by_tool, by_act: breakdowns, sorted by name; acts are ``booking`` and ``search``.
        errors: what went wrong first in each conversation without success: class to count.
        failures: conversations that policy or user could not go on with: kind to count.
        turns: mean number of agent turns.
        error_turns: share of the turns that used their requests up without speaking.
        calls: executed calls.
        faulty_calls: share of them that was refused with an error.
        faults: replies that could not be carried out: kind to count; see ``fault_kind``, and
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
    by_domain: tuple[Breakdown, ...]
    by_tool: tuple[Breakdown, ...]
    by_act: tuple[Breakdown, ...]
    errors: Mapping[str, int]
    failures: Mapping[str, int]
    turns: float
    error_turns: float
    calls: int
    faulty_calls: float
    faults: Mapping[str, int]
    pass_k: tuple[float, ...]
    usage: Usage


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
        by_domain=_breakdowns((_shares(e, goals[e.goal_id], domain_of) for e in episodes), trials),
        by_tool=_breakdowns((_shares(e, goals[e.goal_id], str) for e in episodes), trials),
        by_act=_breakdowns((_shares(e, goals[e.goal_id], act_of) for e in episodes), trials),
        errors=_counted(error_class(e, goals[e.goal_id]) for e in episodes if not e.success),
        failures=_counted(e.failure for e in episodes if e.failure is not None),
        turns=turns / len(episodes),
        error_turns=sum(e.error_turns for e in episodes) / turns if turns else 0.0,
        calls=len(calls),
        faulty_calls=sum("error" in call.payload for call in calls) / len(calls) if calls else 0.0,
        faults=_counted(kind for episode in episodes for kind in _faults(episode)),
        pass_k=tuple(pass_hat_k([won[goal] for goal in per_goal], trials, k + 1) for k in range(trials)),
        usage=sum((episode.usage for episode in episodes), start=Usage()),
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
    made = any(call.tool == missed.tool for call in episode.calls)
    return f"{act_of(missed.tool)} wrong" if made else f"{act_of(missed.tool)} not made"


def fault_kind(call: CallRecord) -> str:
    """Name why a call was refused: the first rule of ToolWOZ that it broke."""
    tool = TOOL_BY_NAME.get(call.tool)
    if tool is None:
        return "unknown tool"
    if any(name not in tool.parameters for name in call.arguments):
        return "unknown parameter"
    return "value that is no text"


def act_of(tool: str) -> str:
    """``booking`` or ``search``."""
    return "booking" if tool.startswith("book_") else "search"


def domain_of(tool: str) -> str:
    """The domain that a tool is of."""
    return tool.split("_", 1)[1]


def _faults(episode: Episode) -> Iterable[str]:
    yield from (fault_kind(call) for call in episode.calls if "error" in call.payload)
    yield from ["unreadable reply"] * unreadable_replies(episode.messages)


def unreadable_replies(conversation: Conversation) -> int:
    """Count the agent's messages that hold no call and were answered as if they tried one."""
    return sum(
        message.role == "assistant" and not message.tool_calls and answered(following)
        for message, following in pairwise(conversation)
    )


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())


def _shares(episode: Episode, goal: Goal, name_of: Callable[[str], str]) -> dict[str, float]:
    """Share of the ground-truth calls that was earned, by what ``name_of`` makes of their tool."""
    names = [name_of(call.tool) for call in goal.calls]
    earned = Counter(name for index, name in enumerate(names) if index in episode.earned)
    return {name: earned[name] / count for name, count in Counter(names).items()}


def _breakdowns(shares: Iterable[Mapping[str, float]], trials: int) -> tuple[Breakdown, ...]:
    """Average shares over conversations; as every goal has equally many, that averages over goals too."""
    values: dict[str, list[float]] = {}
    for episode in shares:
        for name, share in episode.items():
            values.setdefault(name, []).append(share)
    found = []
    for name in sorted(values):
        conversations = len(values[name])
        n = conversations // trials
        success = sum(share == 1.0 for share in values[name]) / conversations
        interval = wilson(success * n, n)
        reward = sum(values[name]) / conversations
        found.append(Breakdown(name, n, reward, success, interval.low, interval.high))
    return tuple(found)
