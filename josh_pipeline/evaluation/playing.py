"""Where goals are played: a policy, an environment, and users; searched as trees, or held as conversations."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from josh_pipeline.core.content import content_id
from josh_pipeline.core.environment import Environment, T
from josh_pipeline.core.policy import Policy, Sampling
from josh_pipeline.core.progress import Progress
from josh_pipeline.core.user import User
from josh_pipeline.dialogue.agents import agent_digest, make_agent
from josh_pipeline.dialogue.users import SAMPLING as USER_SAMPLING
from josh_pipeline.dialogue.users import WORDING, make_user
from josh_pipeline.evaluation.benchmark import Episode, evaluate
from josh_pipeline.policies.weights import Weights
from josh_pipeline.search.rollouts import RolloutSummary, rollouts
from josh_pipeline.search.selection import EVALUATION_SEED
from josh_pipeline.search.spending import Ledger, Meter, MeteredPolicy
from josh_pipeline.search.tree import Tree
from josh_pipeline.settings import Settings

if TYPE_CHECKING:
    from josh_pipeline.policies.endpoint import EndpointPolicy

CONVERSATION = ("max_messages", "max_tokens", "max_requests")
"""Settings of the evaluation that shape a conversation."""


@dataclass(frozen=True)
class Table:
    """Where goals are played: their environment, the policy that plays them, and who the users are."""

    settings: Settings
    environment: Environment[Any]
    policy: Policy
    user_model: Policy | None

    async def search(
        self,
        goals: Sequence[T],
        seed: int,
        attempt: int,
        checkpoint: Callable[[list[Tree]], None],
        progress: Progress,
        ledger: Ledger,
        owed: Mapping[str, int] | None = None,
    ) -> RolloutSummary:
        """Search goals, a tree each; see ``search.rollouts.rollouts``."""
        settings, rules = self.settings, self.settings.search
        await self._try_out(Sampling(rules.temperature, rules.max_tokens, rules.top_p, rules.top_k), progress)
        return await rollouts(
            goals,
            lambda goal: self.environment.world(goal, searching=True),
            self.user,
            self.policy,
            make_agent(settings.policy.agent, settings.policy.results),
            settings.search,
            settings_digest=rollout_digest(settings, self.environment),
            seed=seed,
            attempt=attempt,
            owed=owed,
            checkpoint=checkpoint,
            progress=progress,
            ledger=ledger,
        )

    async def converse(
        self,
        conversations: Sequence[tuple[T, int]],
        progress: Progress,
        task: str = "Evaluation",
        finished: Callable[[Episode], None] = lambda episode: None,
        retries: Mapping[tuple[str, int], int] | None = None,
    ) -> list[Episode]:
        """Hold greedy conversations, each of a goal and a trial; see ``evaluation.benchmark.evaluate``."""
        settings = self.settings
        await self._try_out(Sampling(temperature=0.0, max_tokens=settings.evaluation.max_tokens), progress)
        return await evaluate(
            conversations,
            self.environment.world,
            self.user,
            self.policy,
            make_agent(settings.policy.agent, settings.policy.results),
            settings.evaluation,
            settings.search.in_flight,
            EVALUATION_SEED,
            progress,
            settings_digest=evaluation_digest(settings, self.environment),
            ledger=Ledger(agent_prices=settings.policy.prices, user_prices=settings.user.prices),
            retries=retries,
            task=task,
            finished=finished,
        )

    @property
    def unmet(self) -> dict[str, str]:
        """What of the settings an endpoint was found not to do: whose it is, and a sentence."""
        return {f"{whose} endpoint": endpoint.unmet for whose, endpoint in self._endpoints.items() if endpoint.unmet}

    @property
    def _endpoints(self) -> "dict[str, EndpointPolicy]":
        # Imported where it is used: the HTTP client takes a while, and the audit imports this module.
        from josh_pipeline.policies.endpoint import EndpointPolicy

        models = {"agent's": self.policy, "user's": self.user_model}
        return {whose: model for whose, model in models.items() if isinstance(model, EndpointPolicy)}

    async def _try_out(self, agents: Sampling, progress: Progress) -> None:
        """Ask endpoints a word or two as they will be asked, and say what of the settings they do not do.

        Raises:
            UserError: one does not answer.
        """
        for whose, endpoint in self._endpoints.items():
            await endpoint.try_out(agents if whose == "agent's" else USER_SAMPLING)
        for sentence in self.unmet.values():
            progress.note(sentence)

    def user(self, goal: T, seed: int, meter: Meter) -> User:
        """Return the user of a goal; its model, where it has one, counts on the meter."""
        model = MeteredPolicy(self.user_model, meter) if self.user_model is not None else None
        user = self.settings.user
        return make_user(self.environment, goal, user.kind, user.max_turns, seed, model)


@asynccontextmanager
async def open_table(
    settings: Settings, environment: Environment[Any], weights: Weights | None, digest: str
) -> AsyncIterator[Table]:
    """Open a policy, and the LLM behind the user where the settings have one; close both at the end.

    Args:
        weights, digest: of the policy; an endpoint has its own weights.

    Raises:
        UserError: an engine cannot start, or an endpoint does not answer.
    """
    # Imported where it is used: the engines take seconds to import.
    from josh_pipeline.policies.open import open_policy

    async with (
        open_user_model(settings) as user_model,
        open_policy(settings.policy, weights, digest, settings.search.in_flight) as policy,
    ):
        yield Table(settings, environment, policy, user_model)


@asynccontextmanager
async def open_user_model(settings: Settings) -> AsyncIterator[Policy | None]:
    """Yield what answers for an LLM user; None for users without a model.

    Raises:
        UserError: the endpoint does not answer.
    """
    if settings.user.kind not in ("goal", "guide"):
        yield None
        return
    user, in_flight = settings.user, settings.search.in_flight
    assert user.endpoint is not None and user.model is not None
    # Imported where it is used: httpx2 takes a while, and the audit imports this module.
    from josh_pipeline.policies.endpoint import open_endpoint

    async with open_endpoint(user.endpoint, user.model, in_flight, user.extra_body) as model:
        yield model


def require_endpoints(settings: Settings) -> None:
    """Ask the endpoints of some settings once, before a run of minutes starts that needs them.

    Raises:
        UserError: one cannot be used, or does not answer.
    """

    async def ask() -> None:
        async with open_user_model(settings):
            if settings.policy.endpoint is not None:
                from josh_pipeline.policies.endpoint import open_endpoint

                async with open_endpoint(settings.policy.endpoint, settings.policy.model, in_flight=1):
                    pass

    asyncio.run(ask())


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
    extra = {"policy": policy.extra_body, "user": settings.user.extra_body}
    # Versions of what an endpoint is sent: once a text format's results as the user's, and never a top_k.
    sent = ["results as a tool's", *(["top_k"] if rules.get("top_k") else [])] if policy.endpoint else []
    return content_id(
        "playing",
        environment.digest,
        environment.rules_digest,
        agent_digest(policy.agent, policy.results),
        [policy.max_model_tokens, policy.quantization, *sent, *([extra] if any(extra.values()) else [])],
        user_name(settings, environment),
        settings.user.max_turns,
        dict(rules),
    )


def rollout_digest(settings: Settings, environment: Environment[Any]) -> str:
    """Name everything that a tree depends on beside policy, goal and seed.

    Which goals are searched, how many requests are in flight and how many may fail change no tree.
    """
    rules = settings.search.model_dump(mode="json", exclude={"goals", "draw", "in_flight", "max_failed_share"})
    return playing_digest(settings, environment, rules)


def evaluation_digest(settings: Settings, environment: Environment[Any]) -> str:
    """Name everything that an evaluated conversation depends on beside policy, goal and seed.

    How many are held does not matter to it.
    """
    rules = settings.evaluation.model_dump(include=set(CONVERSATION))
    return playing_digest(settings, environment, rules)
