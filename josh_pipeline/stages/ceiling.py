"""What a perfect agent reaches with the simulated user: it stands beside every score."""

import asyncio
from collections.abc import Sequence

from josh_pipeline.environments.toolwoz.ceiling import Ceiling, user_ceiling
from josh_pipeline.environments.toolwoz.goal import Goal
from josh_pipeline.environments.toolwoz.world import worlds
from josh_pipeline.evaluation.benchmark import episode_seed
from josh_pipeline.settings import Settings
from josh_pipeline.stages.corpus import stored_corpus
from josh_pipeline.stages.episodes import EVALUATION_SEED
from josh_pipeline.store.warehouse import Warehouse


def ceiling_on(
    warehouse: Warehouse, corpus_scope: str, goals: Sequence[Goal], settings: Settings
) -> Ceiling | None:
    """Play goals with an agent that makes no mistake, as the evaluation plays them: its users and limits.

    Args:
        corpus_scope: of the goals' corpus.

    Returns:
        None without goals, and for users other than the agenda user: a scripted agent cannot tell what a
        model wants.
    """
    if settings.user.kind != "agenda" or not goals:
        return None
    world_of = worlds(stored_corpus(warehouse, corpus_scope, dialogues=False), settings.goals.semantics)

    def seed_of(goal: Goal) -> int:
        return episode_seed(EVALUATION_SEED, goal.goal_id, 0)

    return asyncio.run(
        user_ceiling(
            goals,
            world_of,
            seed_of,
            max_turns=settings.user.max_turns,
            max_messages=settings.evaluation.max_messages,
            max_requests=settings.evaluation.max_requests,
        )
    )
