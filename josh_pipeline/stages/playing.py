"""What rollouts and evaluations have in common: the checkpoint, and the worlds and users of goals."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.ids import content_id
from josh_pipeline.core.policy import Policy
from josh_pipeline.core.user import User
from josh_pipeline.dialogue.digest import agent_digest
from josh_pipeline.dialogue.users import make_user, user_digest
from josh_pipeline.environments.toolwoz.goal import Goal
from josh_pipeline.environments.toolwoz.records import Dialogue
from josh_pipeline.environments.toolwoz.world import ToolWozWorld, worlds
from josh_pipeline.policies.weights import Weights
from josh_pipeline.search.spending import Meter, MeteredPolicy
from josh_pipeline.settings import Settings
from josh_pipeline.stages.corpus import stored_corpus
from josh_pipeline.stages.policy import PolicyRow
from josh_pipeline.stages.step import Step
from josh_pipeline.store.home import Home


@dataclass(frozen=True)
class Table:
    """Where goals are played: what makes their worlds and users, and the policy that plays them."""

    world: Callable[[Goal], ToolWozWorld]
    user: Callable[[Goal, int, Meter], User]
    policy: Policy


@asynccontextmanager
async def open_table(
    step: Step,
    row: PolicyRow,
    goals: Sequence[Goal],
    *,
    digest: str,
    adapter_path: str | None,
    inside_search: bool,
) -> AsyncIterator[Table]:
    """Open a policy, and the LLM behind the user where the settings have one; close both at the end.

    Args:
        row: of the iteration; it names corpus and base.
        goals: that will be played; script and guide users need their dialogues.
        digest, adapter_path: of the policy to open, which is the iteration's or its candidate.
        inside_search: see ``ToolWozWorld``.

    Raises:
        UserError: an engine cannot start, an endpoint does not answer, or the settings lack one.
    """
    # Imported where it is used: the engines take seconds to import.
    from josh_pipeline.policies.open import open_policy

    settings = step.settings
    needs_dialogues = settings.user.kind in ("script", "guide")
    corpus = stored_corpus(step.warehouse, row.corpus_scope, dialogues=needs_dialogues)
    dialogues = {dialogue.dialogue_id: dialogue for dialogue in corpus.dialogues}
    unused = {goal.dialogue_id: Dialogue(goal.dialogue_id, goal.split, {}, ()) for goal in goals}
    files = weights(step.home, row.base_path, adapter_path, digest)
    async with (
        open_user_model(settings) as user_model,
        open_policy(settings.policy, files, digest, settings.search.in_flight) as policy,
    ):

        def user(goal: Goal, seed: int, meter: Meter) -> User:
            dialogue = dialogues.get(goal.dialogue_id) or unused[goal.dialogue_id]
            model = MeteredPolicy(user_model, meter) if user_model is not None else None
            return make_user(settings.user, goal, dialogue, seed, model)

        yield Table(worlds(corpus, settings.goals.semantics, inside_search), user, policy)


@asynccontextmanager
async def open_user_model(settings: Settings) -> AsyncIterator[Policy | None]:
    """Yield what answers for an LLM user; None for users without a model.

    Raises:
        UserError: the endpoint does not answer, or is not set.
    """
    if settings.user.kind not in ("goal", "guide"):
        yield None
        return
    if settings.user.endpoint is None or settings.user.model is None:
        raise UserError(f"The {settings.user.kind} user needs a model: set user.endpoint and user.model.")
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


def playing_digest(settings: Settings, rules: Mapping[str, Any]) -> str:
    """Name everything that a conversation depends on beside policy, goal and seed.

    Args:
        rules: the settings of the search or the evaluation that shape one conversation.
    """
    policy = settings.policy
    return content_id(
        "playing",
        settings.goals.semantics,
        agent_digest(policy.agent, policy.results),
        [policy.max_model_tokens, policy.quantization],
        user_digest(settings.user),
        settings.user.max_turns,
        dict(rules),
    )


def rollout_digest(settings: Settings) -> str:
    """Name everything that a tree depends on beside policy, goal and seed.

    How many goals are searched, how many requests are in flight and how many may fail change no tree.
    """
    rules = settings.search.model_dump(mode="json", exclude={"goals", "in_flight", "max_failed_share"})
    return playing_digest(settings, rules)
