"""Simulated users: agenda (no model), goal and guide (an LLM), script (replay)."""

from josh_pipeline.dialogue.users.base import User, UserReply

__all__ = ["User", "UserReply"]
