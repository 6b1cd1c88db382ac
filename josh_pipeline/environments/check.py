"""What an environment that is searched has to hold, tried on some of its tasks: a sentence a promise.

It knows the core's ``Environment`` and ``World`` alone. All moves are drawn by the ids of the tasks.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from statistics import median
from typing import Any, Generic

from josh_pipeline.core.content import derived_seed
from josh_pipeline.core.environment import Environment, T, WantedCall
from josh_pipeline.core.errors import RolloutError, UserError
from josh_pipeline.core.oracle import solved_by_oracle
from josh_pipeline.core.progress import Progress
from josh_pipeline.core.promises import check_playable, kept_tasks
from josh_pipeline.environments.breaches import (
    Cost,
    asking_breach,
    fork_breaches,
    fork_cost,
    play_breaches,
    repeat_breach,
    tool_breaches,
    user_breach,
)
from josh_pipeline.environments.plays import Play, begun
from josh_pipeline.environments.scripts import drawn, pool_of, solution, spread

DRAWN_SCRIPTS = 3
"""For each task, beside the oracle's."""


@dataclass(frozen=True)
class Promise:
    """Something that an environment has to hold.

    Attributes:
        holds: one sentence, true where it is kept.
        forkable: where it is broken, what a search finds or is rewarded for may be wrong; else only branches are
            lost, or tasks are of no use.
    """

    name: str
    holds: str
    forkable: bool = True


PROMISES = (
    Promise("tasks", "A goal_id names one task, and tasks of one source have one role."),
    Promise("playable", "Worlds and users can be made, and say what they have to before anything was said."),
    Promise("repeats", "Played twice, the same moves show the same tools, results, milestones, void and outcome."),
    Promise("asking", "Asking for milestones, void and outcome changes nothing."),
    Promise("forks", "A fork goes on as a world in which the same moves were made anew, and shares nothing."),
    Promise("milestones", "What was earned stays earned, and is one of all_milestones."),
    Promise("void", "What is void stays void, and never has the full reward."),
    Promise("outcome", "Every outcome is a reward in [0, 1]."),
    Promise("user", "The user says the same of the same conversation, whatever else it was asked."),
    Promise("tools", "Tools are described, have a valid JSON Schema, and change at the end of a turn alone.", False),
    Promise("calls", "No move raises, however faulty, and every result is JSON.", False),
    Promise("earnable", "Training tasks begin with something to earn.", False),
    Promise("oracle", "The oracle's calls solve tasks; those that they do not solve are never searched.", False),
)


@dataclass(frozen=True)
class Finding:
    """A promise, and the sentences that say where it is broken; none where it is kept."""

    promise: Promise
    faults: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """It is kept as far as was looked."""
        return not self.faults

    @property
    def sentence(self) -> str:
        """What was found, for people: the first fault, and how many more there are."""
        if not self.faults:
            return self.promise.holds
        more = f" ({len(self.faults) - 1} more like this.)" if len(self.faults) > 1 else ""
        return f"{self.faults[0]}{more}"


@dataclass(frozen=True)
class Checked:
    """What the check of an environment found.

    Attributes:
        played: how many tasks of each role were played.
        scripts: how many were played in their worlds.
        findings: of the promises that could be looked at, in their order.
        unseen: names of the others; what was found kept them from being looked at.
        unsolved: ids of the played tasks that the oracle does not solve.
        fork: what a fork costs, in the median of the tasks; None where no world could be forked.
    """

    played: Mapping[str, int]
    scripts: int
    findings: tuple[Finding, ...]
    unseen: tuple[str, ...]
    unsolved: tuple[str, ...]
    fork: Cost | None

    def of(self, *, forkable: bool) -> list[Finding]:
        """Return the findings of the promises whose ``forkable`` is the given one."""
        return [one for one in self.findings if one.promise.forkable is forkable]

    @property
    def passed(self) -> bool:
        """Every promise is kept as far as was looked."""
        return all(one.passed for one in self.findings)


def check_environment(environment: Environment[T], number: int, progress: Progress, *, pause: float = 0.0) -> Checked:
    """Play, fork and question the worlds of some tasks, and hold what they show to what an environment promises.

    Args:
        number: tasks at most; every kind and role has some where it allows that.
        pause: seconds that pass at least before all is played once more: a clock of seconds shows then.
    """
    check = _Check(environment)
    try:
        tasks = kept_tasks(environment)
    except UserError as fault:
        check.look("tasks", [str(fault)])
        return check.done()
    usable = [task for task in tasks if task.excluded is None]
    check.look("tasks", [] if usable else ["No task is usable: every one is excluded."])
    check.pool = pool_of(usable)
    sample = spread(usable, number)
    started = time.monotonic()
    progress.start("tasks checked", len(sample))
    for task in sample:
        check.task(task)
        progress.advance("tasks checked")
    time.sleep(max(0.0, started + pause - time.monotonic()) if check.repeating else 0.0)
    check.repeat()
    progress.finish("tasks checked")
    return check.done()


class _Check(Generic[T]):
    """A check under way."""

    def __init__(self, environment: Environment[T]) -> None:
        self.environment = environment
        self.pool = pool_of([])
        self.faults: dict[str, list[str]] = {}
        self.scripts = 0
        self.repeating: list[tuple[T, Play]] = []
        self.solved: dict[str, bool] = {}
        self.costs: list[Cost] = []
        self.roles: Counter[str] = Counter()

    def look(self, promise: str, faults: Iterable[str | None], task: T | None = None) -> bool:
        """Note that a promise was looked at, and the first fault, if any; returns whether it is kept."""
        found = next((one for one in faults if one is not None), None)
        noted = self.faults.setdefault(promise, [])
        if found is not None:
            said = found if task is None else f"Task {task.goal_id}: {found}"
            if said not in noted:
                noted.append(said)
        return found is None

    def task(self, task: T) -> None:
        """Look at one task."""
        try:
            check_playable(self.environment, task)
        except UserError as fault:
            self.look("playable", [str(fault)])
            return
        self.look("playable", [])
        self.look("user", [user_breach(self.environment, task)], task)
        self.roles[task.role] += 1
        try:
            self.play(task, self.oracle(task))
        except RolloutError as fault:
            self.look("playable", [fault.message], task)

    def oracle(self, task: T) -> Sequence[WantedCall]:
        """Let the oracle solve a task; returns its calls, or those that the task asks for."""
        try:
            solved = solved_by_oracle(self.environment, task)
        except UserError as fault:
            self.look("oracle", [str(fault)])
            return task.calls
        if solved is not None:
            self.solved[task.goal_id] = solved.solvable
        return self.environment.oracle(task) or task.calls

    def play(self, task: T, calls: Sequence[WantedCall]) -> None:
        """Play the oracle's script and some that are drawn, then again, then unasked, then forked."""
        fresh = partial(begun, self.environment, task)
        chances = [Random(derived_seed("check", task.goal_id, number)) for number in range(DRAWN_SCRIPTS)]
        plays = [drawn(fresh(), calls, self.pool, chance) for chance in chances]
        if calls:
            plays.insert(0, fresh().make(*solution(calls)))
        self.scripts += len(plays)
        breaches = [breach for play in plays for breach in play_breaches(play)]
        for promise in ("playable", "outcome", "calls", "milestones", "void", "tools"):
            self.look(promise, (sentence for name, sentence in breaches if name == promise), task)
        for sentence in tool_breaches(plays):
            self.look("tools", [sentence])
        if task.role == "train":
            self.look("earnable", [nothing_to_earn(plays[0].start)], task)
        if not self.look("repeats", (repeat_breach(play, fresh().make(*play.moves)) for play in plays), task):
            return  # what follows compares plays, and would only say the same again
        self.repeating += [(task, play) for play in plays]
        self.look("asking", (asking_breach(play, fresh(asking=False).make(*play.moves)) for play in plays), task)
        try:
            pairs = zip(plays, [*plays[1:], plays[0]], strict=True)
            forked = (breach for one, other in pairs for breach in fork_breaches(fresh, one.moves, other.moves))
            self.look("forks", forked, task)
            self.costs.append(fork_cost(plays[0]))
        except RolloutError as fault:
            self.look("forks", [fault.message], task)

    def repeat(self) -> None:
        """Play once more what showed the same twice in a row."""
        for task, play in self.repeating:
            self.look("repeats", [repeat_breach(play, begun(self.environment, task).make(*play.moves))], task)

    def done(self) -> Checked:
        """Return what was found."""
        if self.solved:
            none = f"The oracle solves none of {len(self.solved)} tasks: let it return calls that do, or None."
            self.look("oracle", [] if any(self.solved.values()) else [none])
        found = {one: self.faults[one.name] for one in PROMISES if one.name in self.faults}
        costs = [(cost.milliseconds, cost.bytes) for cost in self.costs]
        milliseconds, size = (median(column) for column in zip(*costs, strict=True)) if costs else (0.0, 0)
        return Checked(
            played=dict(self.roles),
            scripts=self.scripts,
            findings=tuple(Finding(promise, tuple(faults)) for promise, faults in found.items()),
            unseen=tuple(one.name for one in PROMISES if one.name not in self.faults),
            unsolved=tuple(name for name, solved in self.solved.items() if not solved),
            fork=Cost(milliseconds, round(size)) if costs else None,
        )


def nothing_to_earn(start: Mapping[str, Any]) -> str | None:
    """Say why nothing can be learnt from a task that begins so; None where something can."""
    if start.get("reward") == 1.0:
        return "it has the full reward before anything was done: exclude it."
    if "milestones" in start and set(start["all milestones"]) <= set(start["milestones"]):
        return "all milestones are earned before anything was done: exclude it, or give it another role."
    return None
