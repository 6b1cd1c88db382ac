"""Users by the name that settings use."""

from josh_pipeline.corpus.records import Dialogue
from josh_pipeline.dialogue.users import goal as goal_user
from josh_pipeline.dialogue.users import guide as guide_user
from josh_pipeline.dialogue.users.agenda import AgendaUser
from josh_pipeline.dialogue.users.base import User
from josh_pipeline.dialogue.users.script import ScriptUser
from josh_pipeline.errors import UserError
from josh_pipeline.ids import content_id
from josh_pipeline.policies.policy import Policy
from josh_pipeline.settings import UserSettings
from josh_pipeline.toolwoz.goal import Goal

AGENDA_VERSION = 1
"""Raised when the agenda user's words or choices change: scores before and after do not compare."""


def make_user(
    settings: UserSettings, goal: Goal, dialogue: Dialogue, seed: int, policy: Policy | None = None
) -> User:
    """Return the simulated user of one goal.

    Args:
        dialogue: the goal's own; guide and script use its turns.
        seed: with the goal it fixes the agenda user.
        policy: what answers for the LLM users.

    Raises:
        UserError: an LLM user without a model.
    """
    if settings.kind == "agenda":
        return AgendaUser(goal, seed, settings.max_turns)
    if settings.kind == "script":
        return ScriptUser(dialogue)
    if policy is None:
        raise UserError(f"The {settings.kind} user needs a model: set user.endpoint and user.model.")
    if settings.kind == "goal":
        return goal_user.GoalUser(policy, goal, seed)
    return guide_user.GuideUser(policy, goal, dialogue, seed)


def wording(settings: UserSettings) -> str:
    """Name the version of the user's words and choices: of its rules, or of its prompts."""
    versions = {
        "agenda": f"v{AGENDA_VERSION}",
        "goal": goal_user.PROMPT_DIGEST,
        "guide": guide_user.PROMPT_DIGEST,
        "script": "v1",
    }
    return versions[settings.kind]


def user_digest(settings: UserSettings) -> str:
    """Name the user, to be recorded with every score: users with equal digests say the same."""
    return content_id(settings.kind, settings.model, wording(settings))


def user_name(settings: UserSettings) -> str:
    """Name the user for people: its kind, its model where it has one, and the version of its words."""
    return " ".join(part for part in (settings.kind, settings.model, wording(settings)) if part)
