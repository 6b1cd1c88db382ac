"""One iteration of JOSH, whole, on one page: no store, no orchestrator.

The stages do the same step by step, and keep everything: ``josh_pipeline.stages``. A test holds the two to the
same rows. Drift from the foundation is measured there alone.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from josh_pipeline.core.content import derived_seed
from josh_pipeline.core.environment import Environment, Task
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.oracle import solved_by_oracle
from josh_pipeline.core.progress import Progress
from josh_pipeline.evaluation.benchmark import Episode
from josh_pipeline.evaluation.gate import Gate, undisturbed
from josh_pipeline.evaluation.playing import Table, open_table
from josh_pipeline.evaluation.statistics import paired_bootstrap
from josh_pipeline.harvest.harvest import counted, harvest, with_earlier, without_long
from josh_pipeline.harvest.labels import disagreements, relabel
from josh_pipeline.harvest.rows import Row, held_out
from josh_pipeline.policies.chat import ChatRenderer
from josh_pipeline.policies.weights import Weights, policy_digest
from josh_pipeline.search.selection import evaluation_goals, playable, rollout_goals
from josh_pipeline.search.spending import Ledger
from josh_pipeline.search.tree import Tree
from josh_pipeline.settings import Settings
from josh_pipeline.training.methods import method_of
from josh_pipeline.training.run import train
from josh_pipeline.training.tokens import RowTokenizer


@dataclass(frozen=True)
class Player:
    """A policy: a base, and at most one adapter on it."""

    digest: str
    base: Path
    base_digest: str
    adapter: Path | None


@dataclass(frozen=True)
class Iteration:
    """What came of an iteration; ``policy`` is what the next one plays with."""

    trees: tuple[Tree, ...]
    rows: tuple[Row, ...]
    candidate: Player
    gate: Gate
    policy: Player


@dataclass(frozen=True)
class Loop:
    """What all iterations share.

    Attributes:
        work: folder for trainings and merged checkpoints.
        demonstrated: sources that the cold start used.
        played: how often each goal was searched before.
        missed: how often the policy missed each tool first on the gate's goals, where goals are drawn by that.
        earlier: rows of the iterations before, the newest first, for ``harvest.replay``.
    """

    environment: Environment[Any]
    settings: Settings
    work: Path
    progress: Progress
    demonstrated: frozenset[str] = frozenset()
    played: Mapping[str, int] = field(default_factory=dict)
    missed: Mapping[str, int] = field(default_factory=dict)
    earlier: Sequence[Sequence[Row]] = ()

    def iterate(self, policy: Player, iteration: str, attempt: int = 1, round: int = 1) -> Iteration:
        """Play one iteration, the line's ``round``: search, harvest, train, evaluate, promote."""
        settings, environment = self.settings, self.environment
        tasks = environment.tasks()

        # Goals: of role train and the kind of the round, solvable, those that were searched least.
        train_goals = [
            task
            for task in playable(tasks, environment.searched(round), "train")
            if (found := solved_by_oracle(environment, task)) is None or found.solvable
        ]
        number = settings.search.goals
        goals = rollout_goals(train_goals, number, self.demonstrated, settings.seed, self.played, self.missed)

        # Search: one tree a goal; the sparse reward prunes it to the branch that worked.
        seed = derived_seed("iteration", settings.seed, iteration)
        trees = asyncio.run(self.search(policy, goals, seed, attempt))

        # Labels: every reward computed anew from the calls, independently of the search.
        of_id = {goal.goal_id: goal for goal in goals}
        for tree in trees:
            world = environment.world(of_id[tree.goal_id], searching=True)
            if wrong := disagreements(tree, relabel(tree, world)):
                raise UserError(f"The labels of a tree are not those that the search noted: {wrong[0]}")

        # Harvest: golden conversations, labelled messages, or pairs; never of a goal that is held out.
        method = settings.training.method
        roles = [(task.goal_id, task.source_id, task.role) for task in tasks]
        forbidden = held_out([goal.goal_id for goal in goals], roles)
        whole = harvest(trees, method, method_of(settings.training).kind, settings.harvest.mode, forbidden)
        length = RowTokenizer(ChatRenderer(policy.base)).length
        rows = without_long(counted(whole, length), settings.training.max_tokens).rows

        # Train: a LoRA adapter on the base, or all weights, from where the last one stopped.
        seed = derived_seed("training", settings.seed, iteration, attempt)
        result = train(
            with_earlier(rows, self.earlier[: settings.harvest.replay]), policy.base, policy.adapter, self.work,
            settings.training, seed, self.progress, settings.policy.quantization,
        )  # fmt: skip
        digest = policy_digest(policy.base_digest, result.digest)
        candidate = replace(policy, digest=digest, adapter=result.adapter)

        # Evaluate: both on the same held-out goals with the same users, greedily. Promote: unless it got worse.
        judged = evaluation_goals(playable(tasks, environment.played, "val"), settings.evaluation.val_goals)
        played = undisturbed(*(asyncio.run(self.play(player, judged)) for player in (policy, candidate)))
        before, after = ([episode.reward for episode in episodes] for episodes in played)
        change = paired_bootstrap(before, after, settings.evaluation.bootstrap)
        gate = Gate(
            change.n, sum(before) / change.n, sum(after) / change.n, change.diff, change.low, change.high,
            drift=None, max_drift=settings.evaluation.max_drift,
        )  # fmt: skip
        return Iteration(trees, rows, candidate, gate, policy=candidate if gate.passed else policy)

    async def search(self, policy: Player, goals: Sequence[Task], seed: int, attempt: int) -> tuple[Tree, ...]:
        """Search goals, many at once; returns their trees in order."""
        trees: list[Tree] = []
        async with self.table(policy) as table:
            await table.search(goals, seed, attempt, trees.extend, self.progress, Ledger())
        of_goal = {tree.goal_id: tree for tree in trees}
        return tuple(of_goal[goal.goal_id] for goal in goals)

    async def play(self, player: Player, goals: Sequence[Task]) -> list[Episode]:
        """Hold a greedy conversation a goal."""
        async with self.table(player) as table:
            return await table.converse([(goal, 0) for goal in goals], self.progress)

    def table(self, player: Player) -> AbstractAsyncContextManager[Table]:
        """Seat a policy with the environment's users."""
        weights = Weights(player.base, player.adapter, self.work / "merged" / player.digest)
        return open_table(self.settings, self.environment, weights, player.digest)
