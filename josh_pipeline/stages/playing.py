"""What rollouts and evaluations have in common, and the conversations of evaluations: played where they are missing."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from josh_pipeline.core.environment import Environment, T
from josh_pipeline.core.errors import UserError
from josh_pipeline.evaluation.benchmark import Episode, episode_seed
from josh_pipeline.evaluation.playing import evaluation_digest, open_table
from josh_pipeline.policies.weights import Weights
from josh_pipeline.search.checkpoint import Checkpointer
from josh_pipeline.search.codec import Flat, usage_from_record, usage_record
from josh_pipeline.search.selection import EVALUATION_SEED
from josh_pipeline.search.tree import Usage
from josh_pipeline.stages.cold_start import base_files_digest
from josh_pipeline.stages.environment import stored_environment
from josh_pipeline.stages.policy import PolicyRow
from josh_pipeline.stages.stage import Step
from josh_pipeline.store.home import Home
from josh_pipeline.store.warehouse import Warehouse


def environment_of(step: Step, row: PolicyRow) -> Environment[Any]:
    """Return the environment that a policy plays in.

    Raises:
        UserError: what it reads from outside was read anew and has changed since the policy was resolved.
    """
    now = step.warehouse.written("corpora", step.require("corpus", row.corpus_scope))[0]["corpus_digest"]
    if now != row.corpus_digest:
        raise UserError(
            f"{step.asset('corpus')} holds something else than policy of iteration {row.iteration} was resolved "
            f"with: materialize {step.asset('goals')} and policy of iteration {row.iteration} again."
        )
    real_words = step.settings.user.kind in ("script", "guide")
    return stored_environment(step.warehouse, step.settings.environment, row.corpus_scope, sources=real_words)


def weights(home: Home, policy: PolicyRow) -> Weights | None:
    """Return the files of a policy with their digests; None for an endpoint, which has its own weights."""
    if not policy.base_path:
        return None
    base = home.warehouse().rows("SELECT * FROM base_models WHERE base_digest = ?", [policy.base_digest])[0]
    return Weights(
        base=home.absolute(policy.base_path),
        adapter=home.absolute(policy.adapter_path) if policy.adapter_path else None,
        merged=home.merged / policy.policy_digest,
        base_files=base_files_digest(base),
        adapter_digest=policy.adapter_digest,
    )


def usage_facts(usage: Usage) -> dict[str, Any]:
    """What asking a policy took."""
    return {
        "requests": usage.requests,
        "prompt tokens": usage.prompt_tokens,
        "cached prompt tokens": usage.cached_tokens,
        "sampled tokens": usage.completion_tokens,
        "tokens of the user's model": usage.user_prompt_tokens + usage.user_completion_tokens,
        "cost": round(usage.cost, 4),
    }


@dataclass(frozen=True)
class Plays:
    """Searches or conversations: what is played, whether or not it was tried before.

    Attributes:
        policy_digest, settings_digest: of all of them.
        goals: each with its seed, in order.
    """

    policy_digest: str
    settings_digest: str
    goals: Sequence[tuple[str, int]]

    @property
    def where(self) -> str:
        """SQL condition that a row of ``trees`` or ``episodes`` is a try of one of them."""
        return (
            "policy_digest = $policy AND settings_digest = $settings AND "
            "(goal_id, seed) IN (SELECT (unnest($goals), unnest($seeds)))"
        )

    @property
    def parameters(self) -> dict[str, Any]:
        """Values for ``where``."""
        return {
            "policy": self.policy_digest,
            "settings": self.settings_digest,
            "goals": [goal for goal, _ in self.goals],
            "seeds": [seed for _, seed in self.goals],
        }


@dataclass(frozen=True)
class Try:
    """The newest try of a search or conversation, which decides whether it is owed.

    Attributes:
        name: id of its tree or episode; None where there is none yet.
        finished: it did not fail, and was not cut by the budget.
        retry: of the next try, where it is owed: how often it has failed.
    """

    name: str | None
    finished: bool
    retry: int


def newest_tries(warehouse: Warehouse, table: str, plays: Plays) -> dict[tuple[str, int], Try]:
    """Return how each search or conversation stands, in their order.

    Args:
        table: ``trees`` or ``episodes``.
    """
    name = "rollout_id" if table == "trees" else "episode_id"
    found = {
        (row["goal_id"], row["seed"]): Try(row["name"], row["finished"], row["retry"] + 1)
        for row in warehouse.rows(
            f"SELECT goal_id, seed, retry, {name} AS name, failure IS NULL AS finished FROM {table} "
            f"WHERE {plays.where} QUALIFY retry = max(retry) OVER (PARTITION BY goal_id, seed)",
            plays.parameters,
        )
    }
    return {one: found.get(one, Try(None, False, 0)) for one in plays.goals}


def played_episodes(
    step: Step, policy: PolicyRow, environment: Environment[T], goals: Sequence[T], shown: str, trials: int = 1
) -> list[Episode]:
    """Return a policy's episodes on goals, playing those that the store lacks.

    A conversation that failed is owed again: the store keeps it, and gets another one.

    Args:
        shown: what people call this, e.g. ``before``.
        trials: conversations a goal.

    Returns:
        In the order of the goals, trials of a goal together.

    Raises:
        UserError: more conversations failed than ``search.max_failed_share`` allows.
    """
    settings = step.settings
    wanted = [(goal, trial) for goal in goals for trial in range(trials)]
    plays = Plays(
        policy.policy_digest,
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
        asyncio.run(_play(step, policy, environment, owed, f"Evaluation {shown}"))
    names = [str(one.name) for one in newest_tries(step.warehouse, "episodes", plays).values()]
    found = {episode.episode_id: episode for episode in stored_episodes(step.warehouse, names)}
    episodes = [found[name] for name in names]
    failed = [episode for episode in episodes if episode.failure is not None]
    if len(failed) > settings.search.max_failed_share * len(episodes):
        raise UserError(
            f"{len(failed)} of {len(episodes)} conversations failed, the first with: "
            f"{str(failed[0].failure_message).rstrip('.')}. Mend that and run again: the others are kept."
        )
    return episodes


async def _play(
    step: Step, policy: PolicyRow, environment: Environment[T], owed: Sequence[tuple[T, int, int]], task: str
) -> None:
    """Hold the conversations that are owed, by goal, trial and retry, and checkpoint them as they end."""

    def write(episodes: list[Episode]) -> None:
        records = [episode_record(episode) | {"run_id": step.run_id} for episode in episodes]
        step.warehouse.append({"episodes": records}, key="episode_id")

    opened = open_table(step.settings, environment, weights(step.home, policy), policy.policy_digest)
    async with opened as table, Checkpointer(write) as writer:
        await table.converse(
            [(goal, trial) for goal, trial, _ in owed],
            step.progress,
            task,
            finished=writer.add,
            retries={(goal.goal_id, trial): retry for goal, trial, retry in owed},
        )
        step.noted.update(table.unmet)


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
