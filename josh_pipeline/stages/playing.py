"""What rollouts and evaluations have in common: a policy's environment and weights, and what is owed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from josh_pipeline.core.environment import Environment
from josh_pipeline.policies.weights import Weights
from josh_pipeline.stages.environment import stored_environment
from josh_pipeline.stages.policy import PolicyRow
from josh_pipeline.stages.step import Step
from josh_pipeline.store.home import Home
from josh_pipeline.store.warehouse import Warehouse


def environment_of(step: Step, row: PolicyRow) -> Environment[Any]:
    """Return the environment that a policy plays in."""
    real_words = step.settings.user.kind in ("script", "guide")
    return stored_environment(step.warehouse, step.settings.environment, row.corpus_scope, sources=real_words)


def weights(home: Home, base_path: str, adapter_path: str | None, digest: str) -> Weights | None:
    """Return the files of a policy; None for an endpoint, which has its own weights.

    Args:
        digest: of the policy; names the merged folder.
    """
    if not base_path:
        return None
    adapter = home.absolute(adapter_path) if adapter_path else None
    return Weights(home.absolute(base_path), adapter, home.merged / digest)


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
