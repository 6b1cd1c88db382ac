"""Conversations of the benchmark: played where they are missing, checkpointed, read back."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from josh_pipeline.core.errors import UserError
from josh_pipeline.dialogue.agents import make_agent
from josh_pipeline.environments.toolwoz.goal import Goal
from josh_pipeline.evaluation.benchmark import Episode, episode_id, episode_seed, evaluate
from josh_pipeline.search.checkpoint import Checkpointer
from josh_pipeline.search.codec import (
    USAGE,
    call_from,
    call_value,
    conversation_from_text,
    conversation_text,
    json_text,
)
from josh_pipeline.search.spending import Ledger
from josh_pipeline.search.tree import Usage
from josh_pipeline.stages.playing import open_table, playing_digest
from josh_pipeline.stages.policy import PolicyRow
from josh_pipeline.stages.step import Step
from josh_pipeline.store.warehouse import Warehouse

EVALUATION_SEED = 0
"""Users are the same in every evaluation, whatever the seed of the run: scores stay comparable."""

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


def played(
    step: Step, row: PolicyRow, player: Player, goals: Sequence[Goal], trials: int = 1
) -> list[Episode]:
    """Return a policy's episodes on goals, playing those that the store lacks.

    Args:
        row: of the iteration; it names corpus and base.
        trials: conversations a goal.

    Returns:
        In the order of the goals, trials of a goal together.

    Raises:
        UserError: more conversations failed than ``search.max_failed_share`` allows.
    """
    settings = step.settings
    digest = playing_digest(settings, evaluation_rules(step))
    ids = {
        (goal.goal_id, trial): episode_id(
            player.digest, goal.goal_id, episode_seed(EVALUATION_SEED, goal.goal_id, trial), digest
        )
        for goal in goals
        for trial in range(trials)
    }
    done = finished_ids(step.warehouse, list(ids.values()))
    owed = [
        (goal, trial) for goal in goals for trial in range(trials) if ids[goal.goal_id, trial] not in done
    ]
    if owed:
        asyncio.run(_play(step, row, player, owed, digest))
    found = {episode.episode_id: episode for episode in stored_episodes(step.warehouse, list(ids.values()))}
    episodes = [found[name] for name in ids.values()]
    failed = [episode for episode in episodes if episode.failure is not None]
    if len(failed) > settings.search.max_failed_share * len(episodes):
        raise UserError(
            f"{len(failed)} of {len(episodes)} conversations failed, the first with: "
            f"{failed[0].failure_message} Mend that and run again: the others are kept."
        )
    return episodes


def evaluation_rules(step: Step) -> dict[str, Any]:
    """The evaluation settings that a conversation depends on; how many are held does not matter to it."""
    evaluation = step.settings.evaluation
    return {name: getattr(evaluation, name) for name in ("max_messages", "max_tokens", "max_requests")}


async def _play(
    step: Step, row: PolicyRow, player: Player, owed: Sequence[tuple[Goal, int]], digest: str
) -> None:
    """Hold the conversations that are owed, each by its goal and trial, and checkpoint them as they end."""
    settings = step.settings
    goals = list({goal.goal_id: goal for goal, _ in owed}.values())

    def write(episodes: list[Episode]) -> None:
        records = [episode_record(episode) | {"run_id": step.run_id} for episode in episodes]
        frame = pl.DataFrame(records, schema_overrides=EPISODE_SCHEMA)
        step.warehouse.append({"episodes": frame}, key="episode_id")

    async with (
        open_table(
            step, row, goals, digest=player.digest, adapter_path=player.adapter_path, inside_search=False
        ) as table,
        Checkpointer(write) as writer,
    ):
        await evaluate(
            owed,
            table.world,
            table.user,
            table.policy,
            make_agent(settings.policy.agent, settings.policy.results),
            settings.evaluation,
            settings.search.in_flight,
            EVALUATION_SEED,
            step.progress,
            settings_digest=digest,
            ledger=Ledger(agent_prices=settings.policy.prices, user_prices=settings.user.prices),
            task=f"Evaluation {player.shown}",
            finished=writer.add,
        )


def finished_ids(warehouse: Warehouse, ids: Sequence[str]) -> set[str]:
    """Return which of these episodes the store has; failed ones are owed again."""
    return set(
        warehouse.query(
            "SELECT episode_id FROM episodes WHERE failure IS NULL AND list_contains(?, episode_id)",
            [list(ids)],
        )["episode_id"]
    )


def stored_episodes(warehouse: Warehouse, ids: Sequence[str]) -> list[Episode]:
    """Return episodes by id, in any order."""
    return [
        episode_from_record(row)
        for row in warehouse.rows("SELECT * FROM episodes WHERE list_contains(?, episode_id)", [list(ids)])
    ]


def episode_record(episode: Episode) -> dict[str, Any]:
    """Return an episode's row of table ``episodes``, but for ``run_id``."""
    return {
        "episode_id": episode.episode_id,
        "goal_id": episode.goal_id,
        "policy_digest": episode.policy_digest,
        "seed": episode.seed,
        "settings_digest": episode.settings_digest,
        "trial": episode.trial,
        "reward": episode.reward,
        "success": episode.success,
        "earned": json_text(episode.earned),
        "messages": conversation_text(episode.messages),
        "calls": json_text([call_value(call) for call in episode.calls]),
        "turns": episode.turns,
        "error_turns": episode.error_turns,
        "user_done": episode.user_done,
        "failure": episode.failure,
        "failure_message": episode.failure_message,
        **{name: getattr(episode.usage, name) for name in USAGE},
    }


def episode_from_record(record: Mapping[str, Any]) -> Episode:
    """Rebuild an episode; further columns are ignored."""
    plain = (
        "episode_id", "goal_id", "policy_digest", "seed", "settings_digest", "trial", "reward", "turns",
        "error_turns", "user_done", "failure", "failure_message",
    )  # fmt: skip
    return Episode(
        messages=conversation_from_text(record["messages"]),
        calls=tuple(call_from(value) for value in json.loads(record["calls"])),
        earned=tuple(json.loads(record["earned"])),
        usage=Usage(**{name: record[name] for name in USAGE}),
        **{name: record[name] for name in plain},
    )
