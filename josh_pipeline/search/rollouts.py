"""Many goals searched at once: admission, checkpoints, resume, failures and the budget."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, TypeVar

from josh_pipeline.core.content import derived_seed
from josh_pipeline.core.errors import ErrorKind, UserError, at_fault
from josh_pipeline.core.policy import Policy
from josh_pipeline.core.progress import Progress
from josh_pipeline.core.user import User, seated
from josh_pipeline.core.world import World
from josh_pipeline.dialogue.agents import AgentFormat
from josh_pipeline.search.checkpoint import Checkpointer
from josh_pipeline.search.concurrency import Limiter, admitted
from josh_pipeline.search.search import search
from josh_pipeline.search.spending import Ledger, Meter
from josh_pipeline.search.tree import Tree, Usage
from josh_pipeline.settings import SearchSettings


class Named(Protocol):
    """Anything that is a goal."""

    @property
    def goal_id(self) -> str:
        """Content hash that names the goal."""
        ...


G = TypeVar("G", bound=Named)


class TooManyFailuresError(UserError):
    """More conversations failed than the settings allow; those that finished are kept."""


@dataclass
class RolloutSummary:
    """What a run of rollouts did, and what it cost; it counts trees as they finish.

    Attributes:
        owed: goals whose trees were not stored when it began.
        stored: goals whose trees were.
        finished: trees made now, failed ones included.
        solved: those with full reward.
        reward: sum over the finished trees.
        failures: failed trees by kind, those cut short by the budget not counted.
        first_failure: the message of the first of them.
        branches: nodes that an agent was asked for.
        failed_branches: those that failed, by kind.
        cut: trees that the budget cut short; ``owed - finished`` goals were never begun.
        usage: sums over the trees; in the end ``seconds`` is the wall time of all.
    """

    owed: int
    stored: int
    finished: int = 0
    solved: int = 0
    reward: float = 0.0
    failures: Counter[ErrorKind] = field(default_factory=Counter)
    first_failure: str = ""
    branches: int = 0
    failed_branches: Counter[ErrorKind] = field(default_factory=Counter)
    cut: int = 0
    usage: Usage = field(default_factory=Usage)

    @property
    def mean_reward(self) -> float:
        """Over the finished trees; 0 where there are none."""
        return self.reward / self.finished if self.finished else 0.0

    def add(self, tree: Tree) -> None:
        """Count a tree."""
        self.finished += 1
        self.solved += tree.reward >= 1.0
        self.reward += tree.reward
        if tree.failure == "budget":
            self.cut += 1
        elif tree.failure is not None:
            self.failures[tree.failure] += 1
            self.first_failure = self.first_failure or str(tree.failure_message)
        self.branches += len(tree.nodes) - 1
        self.failed_branches.update(node.failure for node in tree.nodes[1:] if node.failure is not None)
        self.usage += tree.usage

    def refuse_over(self, share: float, goals: int) -> None:
        """Stop the run once more than a share of some goals has failed.

        Raises:
            TooManyFailuresError: it has.
        """
        failed = self.failures.total()
        if failed > share * goals:
            counts = ", ".join(f"{kind} {count}" for kind, count in self.failures.most_common())
            raise TooManyFailuresError(
                f"{failed} of {goals} rollouts failed ({counts}; the first: "
                f"{self.first_failure.rstrip('.')}) and search.max_failed_share allows {share:.0%}: "
                "mend the cause and run it again; what finished is kept."
            )


def rollout_seed(seed: int, attempt: int) -> int:
    """Return the seed of all trees of one attempt."""
    return derived_seed("rollouts", seed, attempt)


async def rollouts(
    goals: Sequence[G],
    make_world: Callable[[G], World],
    make_user: Callable[[G, int, Meter], User],
    policy: Policy,
    agent: AgentFormat,
    settings: SearchSettings,
    *,
    settings_digest: str,
    seed: int,
    attempt: int,
    checkpoint: Callable[[list[Tree]], None],
    progress: Progress,
    ledger: Ledger,
    owed: Mapping[str, int] | None = None,
    task: str = "Searching",
) -> RolloutSummary:
    """Search goals, as many at once as keep the policy busy.

    Whatever way the run ends, trees that finished have been checkpointed.

    Args:
        goals: in the order in which they are begun; none of them excluded.
        make_world: a fresh world of a goal.
        make_user: the user of a goal, by a seed of its own; a user's model counts on the meter.
        policy, agent: who plays.
        settings: of the search; ``in_flight`` caps requests over all goals.
        settings_digest: names all that a tree depends on beside policy, goal and seed.
        seed, attempt: of the iteration; with the goal they fix every request's seed.
        checkpoint: makes a batch of trees durable; called on a thread, one call at a time.
        progress: counts goals.
        ledger: prices and the budget; once that is spent, conversations under way end with their round
            as trees with failure ``budget``, and none is begun.
        owed: the goals whose trees are not stored, each with how often its search had failed before; None:
            all of them, for the first time.

    Raises:
        TooManyFailuresError: more than ``max_failed_share`` of the goals failed, those cut short by the
            budget not counted; raised once that is certain.
    """
    started = time.monotonic()
    tree_seed = rollout_seed(seed, attempt)
    retries = dict.fromkeys((goal.goal_id for goal in goals), 0) if owed is None else owed
    waiting = [goal for goal in goals if goal.goal_id in retries]
    summary = RolloutSummary(owed=len(waiting), stored=len(goals) - len(waiting))
    limiter = Limiter(settings.in_flight)

    async def one(goal: G) -> Tree:
        account = ledger.account()
        with at_fault(f"Making the world of goal {goal.goal_id}"):
            world = make_world(goal)
        user_seed = derived_seed("user", tree_seed, goal.goal_id)
        return await search(
            goal.goal_id,
            world=world,
            user=seated(lambda: make_user(goal, user_seed, account.user)),
            policy=policy,
            agent=agent,
            settings=settings,
            settings_digest=settings_digest,
            seed=tree_seed,
            limiter=limiter,
            account=account,
            retry=retries[goal.goal_id],
        )

    progress.start(task, len(waiting))
    try:
        async with Checkpointer(checkpoint) as writer:

            def keep(tree: Tree) -> None:
                writer.add(tree)
                summary.add(tree)
                progress.advance(task)
                summary.refuse_over(settings.max_failed_share, len(goals))

            starts = (partial(one, goal) for goal in waiting)
            await admitted(starts, limiter, keep, enough=lambda: ledger.budget.spent)
            summary.refuse_over(settings.max_failed_share, summary.stored + summary.finished)
    finally:
        progress.finish(task)
    summary.usage = replace(summary.usage, seconds=time.monotonic() - started)
    return summary
