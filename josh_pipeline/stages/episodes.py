"""Conversations of the benchmark: played where they are missing, checkpointed, read back."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from josh_pipeline.core.environment import Environment, T
from josh_pipeline.core.errors import UserError
from josh_pipeline.evaluation.benchmark import Episode, episode_seed
from josh_pipeline.evaluation.playing import evaluation_digest, open_table
from josh_pipeline.search.checkpoint import Checkpointer
from josh_pipeline.search.codec import Flat, usage_from_record, usage_record
from josh_pipeline.search.selection import EVALUATION_SEED
from josh_pipeline.stages.playing import Plays, newest_tries, weights
from josh_pipeline.stages.policy import PolicyRow
from josh_pipeline.stages.step import Step
from josh_pipeline.store.warehouse import Warehouse

EPISODE_SCHEMA = {"failure": pl.String, "failure_message": pl.String}


@dataclass(frozen=True)
class Player:
    """A policy that is evaluated.

    Attributes:
        digest: its name.
        adapter_path: as stored; None for the base.
        shown: what people call it, e.g. ``before``.
    """

    digest: str
    adapter_path: str | None
    shown: str


def played_episodes(
    step: Step,
    row: PolicyRow,
    environment: Environment[T],
    player: Player,
    goals: Sequence[T],
    trials: int = 1,
) -> list[Episode]:
    """Return a policy's episodes on goals, playing those that the store lacks.

    A conversation that failed is owed again: the store keeps it, and gets another one.

    Args:
        row: of the iteration; it names the base.
        trials: conversations a goal.

    Returns:
        In the order of the goals, trials of a goal together.

    Raises:
        UserError: more conversations failed than ``search.max_failed_share`` allows.
    """
    settings = step.settings
    wanted = [(goal, trial) for goal in goals for trial in range(trials)]
    plays = Plays(
        player.digest,
        evaluation_digest(settings, environment),
        [(goal.goal_id, episode_seed(EVALUATION_SEED, goal.goal_id, trial)) for goal, trial in wanted],
    )
    tries = newest_tries(step.warehouse, "episodes", plays)
    owed = [
        (goal, trial, tries[play].retry)
        for (goal, trial), play in zip(wanted, plays.goals, strict=True)
        if not tries[play].finished
    ]
    if owed:
        asyncio.run(_play(step, row, environment, player, owed))
    names = [str(one.name) for one in newest_tries(step.warehouse, "episodes", plays).values()]
    found = {episode.episode_id: episode for episode in stored_episodes(step.warehouse, names)}
    episodes = [found[name] for name in names]
    failed = [episode for episode in episodes if episode.failure is not None]
    if len(failed) > settings.search.max_failed_share * len(episodes):
        raise UserError(
            f"{len(failed)} of {len(episodes)} conversations failed, the first with: "
            f"{failed[0].failure_message} Mend that and run again: the others are kept."
        )
    return episodes


async def _play(
    step: Step,
    row: PolicyRow,
    environment: Environment[T],
    player: Player,
    owed: Sequence[tuple[T, int, int]],
) -> None:
    """Hold the conversations that are owed, by goal, trial and retry, and checkpoint them as they end."""

    def write(episodes: list[Episode]) -> None:
        records = [episode_record(episode) | {"run_id": step.run_id} for episode in episodes]
        frame = pl.DataFrame(records, schema_overrides=EPISODE_SCHEMA)
        step.warehouse.append({"episodes": frame}, key="episode_id")

    files = weights(step.home, row.base_path, player.adapter_path, player.digest)
    async with (
        open_table(step.settings, environment, files, player.digest) as table,
        Checkpointer(write) as writer,
    ):
        await table.converse(
            [(goal, trial) for goal, trial, _ in owed],
            step.progress,
            f"Evaluation {player.shown}",
            finished=writer.add,
            retries={(goal.goal_id, trial): retry for goal, trial, retry in owed},
        )


def stored_episodes(warehouse: Warehouse, ids: Sequence[str]) -> list[Episode]:
    """Return episodes by id, in any order."""
    return [
        episode_from_record(row)
        for row in warehouse.rows("SELECT * FROM episodes WHERE list_contains(?, episode_id)", [list(ids)])
    ]


_EPISODES = Flat(Episode, without=("usage",))


def episode_record(episode: Episode) -> dict[str, Any]:
    """Return an episode's row of table ``episodes``, but for ``run_id``."""
    return _EPISODES.record(episode) | {"success": episode.success} | usage_record(episode.usage)


def episode_from_record(record: Mapping[str, Any]) -> Episode:
    """Rebuild an episode; further columns are ignored."""
    return _EPISODES.read(record, usage=usage_from_record(record))
