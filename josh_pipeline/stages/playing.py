"""What rollouts and evaluations have in common: the weights, and the worlds and users of goals."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from josh_pipeline.core.environment import Environment, T
from josh_pipeline.core.ids import content_id
from josh_pipeline.core.policy import Policy
from josh_pipeline.core.user import User
from josh_pipeline.dialogue.agents import agent_digest
from josh_pipeline.dialogue.users import WORDING, make_user
from josh_pipeline.policies.weights import Weights
from josh_pipeline.search.spending import Meter, MeteredPolicy
from josh_pipeline.settings import Settings
from josh_pipeline.stages.environment import stored_environment
from josh_pipeline.stages.policy import PolicyRow
from josh_pipeline.stages.step import Step
from josh_pipeline.store.home import Home
from josh_pipeline.store.warehouse import Warehouse


@dataclass(frozen=True)
class Table:
    """Where goals are played: their environment, the policy that plays them, and who the users are."""

    environment: Environment[Any]
    policy: Policy
    settings: Settings
    user_model: Policy | None

    def user(self, goal: T, seed: int, meter: Meter) -> User:
        """Return the user of a goal; its model, where it has one, counts on the meter."""
        model = MeteredPolicy(self.user_model, meter) if self.user_model is not None else None
        settings = self.settings.user
        return make_user(self.environment, goal, settings.kind, settings.max_turns, seed, model)


def environment_of(step: Step, row: PolicyRow) -> Environment[Any]:
    """Return the environment that a policy plays in."""
    real_words = step.settings.user.kind in ("script", "guide")
    return stored_environment(step.warehouse, step.settings.environment, row.corpus_scope, sources=real_words)


@asynccontextmanager
async def table_for(
    step: Step, row: PolicyRow, environment: Environment[Any], *, digest: str, adapter_path: str | None
) -> AsyncIterator[Table]:
    """Open a policy, and the LLM behind the user where the settings have one; close both at the end.

    Args:
        row: of the iteration; it names the base.
        environment: of ``environment_of``.
        digest, adapter_path: of the policy to open, which is the iteration's or its candidate.

    Raises:
        UserError: an engine cannot start, or an endpoint does not answer.
    """
    # Imported where it is used: the engines take seconds to import.
    from josh_pipeline.policies.open import open_policy

    settings = step.settings
    files = weights(step.home, row.base_path, adapter_path, digest)
    async with (
        open_user_model(settings) as user_model,
        open_policy(settings.policy, files, digest, settings.search.in_flight) as policy,
    ):
        yield Table(environment, policy, settings, user_model)


@asynccontextmanager
async def open_user_model(settings: Settings) -> AsyncIterator[Policy | None]:
    """Yield what answers for an LLM user; None for users without a model.

    Raises:
        UserError: the endpoint does not answer.
    """
    if settings.user.kind not in ("goal", "guide"):
        yield None
        return
    assert settings.user.endpoint is not None and settings.user.model is not None
    # Imported where it is used: httpx takes a while, and the audit imports this module.
    from josh_pipeline.policies.endpoint import EndpointPolicy

    model = EndpointPolicy(settings.user.endpoint, settings.user.model, settings.search.in_flight)
    try:
        await model.check()
        yield model
    finally:
        await model.close()


def weights(home: Home, base_path: str, adapter_path: str | None, digest: str) -> Weights | None:
    """Return the files of a policy; None for an endpoint, which has its own weights.

    Args:
        digest: of the policy; names the merged folder.
    """
    if not base_path:
        return None
    adapter = home.absolute(adapter_path) if adapter_path else None
    return Weights(home.absolute(base_path), adapter, home.merged / digest)


def user_name(settings: Settings, environment: Environment[Any]) -> str:
    """Name the user for people: its kind, its model where it has one, and the version of its words."""
    kind = settings.user.kind
    words = WORDING.get(kind, f"v{environment.user_version}")
    return " ".join(part for part in (kind, settings.user.model, words) if part)


def playing_digest(settings: Settings, environment: Environment[Any], rules: Mapping[str, Any]) -> str:
    """Name everything that a conversation depends on beside policy, goal and seed.

    Args:
        rules: the settings of the search or the evaluation that shape one conversation.
    """
    policy = settings.policy
    return content_id(
        "playing",
        environment.rules_digest,
        agent_digest(policy.agent, policy.results),
        [policy.max_model_tokens, policy.quantization],
        user_name(settings, environment),
        settings.user.max_turns,
        dict(rules),
    )


def rollout_digest(settings: Settings, environment: Environment[Any]) -> str:
    """Name everything that a tree depends on beside policy, goal and seed.

    How many goals are searched, how many requests are in flight and how many may fail change no tree.
    """
    rules = settings.search.model_dump(mode="json", exclude={"goals", "in_flight", "max_failed_share"})
    return playing_digest(settings, environment, rules)


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
