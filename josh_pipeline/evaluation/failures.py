"""Why a goal was lost: the first milestone that a conversation missed, and what it did instead."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from josh_pipeline.core.environment import Environment, Task, WantedCall
from josh_pipeline.core.messages import visible
from josh_pipeline.core.world import CallRecord
from josh_pipeline.evaluation.benchmark import Episode

ENDINGS = ("the user gave up", "the user left", "the user fell silent", "message limit")
"""How a conversation ends that did not fail: the user says that it is not served, or anything else, or nothing, as one
whose turns are used up; or the evaluation cuts it."""


@dataclass(frozen=True)
class Failure:
    """One lost goal.

    Attributes:
        goal_id, source_id, episode_id: what was played.
        milestone: position of the wanted call that was missed first; None where no wanted call was.
        tool: of that call; empty without one.
        why: what was done instead, a class for counts.
        detail: the arguments that were wrong, for people; empty where that says nothing more.
        ended: one of ``ENDINGS``, or the failure's kind.
    """

    goal_id: str
    source_id: str
    episode_id: str
    milestone: int | None
    tool: str
    why: str
    detail: str
    ended: str


def failure_of(environment: Environment[Any], goal: Task, episode: Episode) -> Failure:
    """Say what a conversation without success missed first, and why.

    A wanted call whose tool was called is missed where the closest of these calls was made; before those that
    were never made, for a conversation seldom gets past a wrong one.
    """
    missed = [(place, call) for place, call in enumerate(goal.calls) if place not in episode.earned]
    tried = [(_closest(call, episode), place, call) for place, call in missed]
    made = [(index, place, call) for index, place, call in tried if index is not None]
    place: int | None = None
    tool, why, detail = "", "not solved", ""
    if made:
        index, place, call = min(made, key=lambda one: one[:2])
        tool = call.tool
        why, detail = _wrong(environment, call, episode, episode.calls[index])
    elif missed:
        place, call = missed[0]
        tool, why = call.tool, _unmade(environment, goal, call, episode)
    if episode.failure is not None:
        why = f"failed: {episode.failure}"
    return Failure(
        goal.goal_id, goal.source_id, episode.episode_id, place, tool, why, detail, _ended(environment, episode)
    )


def _closest(wanted: WantedCall, episode: Episode) -> int | None:
    """Return the call of the wanted tool that shares most arguments with what was wanted, the last of equals."""
    calls = [(index, call) for index, call in enumerate(episode.calls) if call.tool == wanted.tool]
    shared = [(sum(_same(call, name, value) for name, value in wanted.parameters.items()), i) for i, call in calls]
    return max(shared)[1] if shared else None


def _same(call: CallRecord, name: str, value: Any) -> bool:
    return name in call.arguments and _plain(call.arguments[name]) == _plain(value)


def _plain(value: Any) -> str:
    return " ".join(str(value).lower().split())


def _wrong(environment: Environment[Any], wanted: WantedCall, episode: Episode, call: CallRecord) -> tuple[str, str]:
    """Say what is wrong with a call, the gravest first."""
    if call.error:
        return f"refused: {environment.fault(call)}", ""
    left_out = [name for name in wanted.parameters if name not in call.arguments]
    if left_out:
        return "left an argument out", ", ".join(left_out)
    told = _plain(" ".join(m.content for m in visible(episode.messages) if m.role == "user"))
    wrong = {name: value for name, value in wanted.parameters.items() if not _same(call, name, value)}
    if wrong:
        found = any(_plain(value) not in told for value in wrong.values())
        shown = ", ".join(f"{name}: {call.arguments[name]} for {value}" for name, value in wrong.items())
        return "wrong result picked" if found else "wrong value", shown
    added = [name for name in call.arguments if name not in wanted.parameters]
    return ("argument that nobody asked for", ", ".join(added)) if added else ("right call, not earned", "")


def _unmade(environment: Environment[Any], goal: Task, call: WantedCall, episode: Episode) -> str:
    if episode.error_turns:
        return "unreadable or endless turn"
    told = environment.unmade(goal, call, episode.messages, episode.calls)
    ended = _ended(environment, episode)
    return told or (ended if ended in ("the user gave up", "message limit") else "never called")


def _ended(environment: Environment[Any], episode: Episode) -> str:
    if episode.failure is not None:
        return episode.failure
    gave_up, left, silent, limit = ENDINGS
    if not episode.user_done:
        return limit
    if environment.gave_up(episode.messages):
        return gave_up
    return left if visible(episode.messages)[-1].role == "user" else silent


def counted(failures: Iterable[Failure]) -> Mapping[tuple[str, str], int]:
    """Count by what was missed and why, the most frequent first."""
    return dict(Counter(sorted((one.tool, one.why) for one in failures)).most_common())


def by_ending(failures: Iterable[Failure]) -> Mapping[str, int]:
    """Count by how conversations ended, in the order of ``ENDINGS``; then by what broke others off."""
    found = Counter(one.ended for one in failures)
    return {ended: found[ended] for ended in (*ENDINGS, *sorted(found.keys() - set(ENDINGS))) if ended in found}
