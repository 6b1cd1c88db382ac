"""What a policy was asked in the greedy conversations that a home holds, and what it answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from josh_pipeline.core.messages import Conversation
from josh_pipeline.dialogue.agents import make_agent
from josh_pipeline.settings import Settings
from josh_pipeline.stages.environment import stored_environment, stored_tasks
from josh_pipeline.stages.playing import stored_episodes
from josh_pipeline.stages.stage import corpus_scope, goals_scope
from josh_pipeline.store.home import Home


@dataclass(frozen=True)
class Answered:
    """A request of a conversation.

    Attributes:
        messages, tools: what was asked.
        answer: the text that was sampled, without white space around it.
    """

    messages: Conversation
    tools: tuple[Mapping[str, Any], ...]
    answer: str


def stored_answers(home: Home, settings: Settings, episodes: Sequence[str]) -> list[Answered]:
    """Return every request of some conversations."""
    store = home.warehouse()
    environment = stored_environment(store, settings.environment, corpus_scope(settings), sources=True)
    found = stored_episodes(store, episodes)
    goals = [episode.goal_id for episode in found]
    tasks = {task.goal_id: task for task in stored_tasks(store, goals_scope(settings), of=environment.Task, ids=goals)}
    agent = make_agent(settings.policy.agent, settings.policy.results)
    answers = []
    for episode in found:
        world = environment.world(tasks[episode.goal_id])
        for place, message in enumerate(episode.messages):
            # The sentence that ends a turn without an answer was not sampled.
            if message.role == "assistant" and not message.error:
                asked = (agent.system(world), *episode.messages[:place])
                answers.append(Answered(asked, agent.schemas(world), message.content))
    return answers
