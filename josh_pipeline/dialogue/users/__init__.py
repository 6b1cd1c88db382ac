"""Simulated users: agenda (no model), goal and guide (an LLM), script (replay)."""

from josh_pipeline.dialogue.users.base import User, UserReply
from josh_pipeline.dialogue.users.factory import make_user, user_digest

__all__ = ["User", "UserReply", "make_user", "user_digest"]
