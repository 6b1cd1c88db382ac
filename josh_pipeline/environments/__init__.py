"""Environments: what is played. One folder or class each, and one registry."""
