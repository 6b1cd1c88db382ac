"""A whole loop in seconds: the sample corpus, a scripted policy that gets better, a tiny model to train."""

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes import ScriptedPolicy, chance
from tiny_model import tiny_model

from josh_pipeline.core.policy import Policy, Request
from josh_pipeline.environments.toolwoz.sample import sample_corpus
from josh_pipeline.policies.weights import Weights
from josh_pipeline.settings import PolicySettings

SETTINGS: dict[str, Any] = {
    "seed": 0,
    "environment": {
        "name": "toolwoz",
        "corpus": {"source": "sample", "sample_dialogues": 120},
        "goals": {"kind": "parts", "domains": ["attraction"]},
    },
    "policy": {"agent": "compact", "max_model_tokens": 8192},
    "cold_start": {"conversations": 0},
    "search": {"goals": 8, "beam_size": 4, "temperature": 0.7, "max_rounds": 3},
    "training": {"method": "sft", "epochs": 1, "max_tokens": 8192, "processes": 0, "lora": {"r": 2, "alpha": 4}},
    "evaluation": {"test_goals": 12, "val_goals": 6, "bootstrap": 200, "whole_goals": 5},
}
"""Attraction parts: one search each, so that a scripted policy can solve them from what the user says."""


def sample_of(dialogues: int) -> dict[str, Any]:
    """Settings of the environment with another size of the built-in corpus."""
    environment: dict[str, Any] = SETTINGS["environment"]
    return environment | {"corpus": {"source": "sample", "sample_dialogues": dialogues}}


def tiny_profile(folder: Path, **changes: Any) -> Path:
    """Write a profile on a tiny model; ``changes`` replace whole sections."""
    values = SETTINGS | changes
    values = values | {"policy": values["policy"] | {"model": str(tiny_model(folder / "model"))}}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def answering() -> Callable[[Request, float], str]:
    """Return what answers a request: a search with what the user named, as often as the skill says."""
    corpus = sample_corpus(120)
    known = {
        key: sorted({str(row[key]) for row in corpus.databases["attraction"]}, key=len, reverse=True)
        for key in ("name", "type", "area")
    }

    def heard(request: Request) -> dict[str, str]:
        said = " ".join(m.content for m in request.messages if m.role == "user").lower()
        found = {}
        for key, values in known.items():
            places = [(said.rfind(value.lower()), value) for value in values if value.lower() in said]
            if places:
                found[key] = max(places)[1]
        return found

    def answer(request: Request, skill: float) -> str:
        last = request.messages[-1]
        if last.content.startswith("{"):
            names = re.findall(r'"name": ?"([^"]+)"', last.content)
            return f"I recommend {names[0]}." if names else "Sorry, nothing matches that."
        if chance(request).random() < skill:
            return json.dumps({"name": "search_attraction", "parameters": heard(request)})
        return "Let me think about it."

    return answer


def searcher(
    skill: Callable[[str], float], delay: float = 0.0
) -> Callable[[PolicySettings, Weights | None, str, int], Any]:
    """Return a stand-in for ``open_policy``.

    Its policy searches for what the user named so far with the probability that ``skill`` gives for the
    policy's digest, drawn with the request's seed, and chats otherwise. Each answer takes up to
    ``delay`` seconds.
    """
    answers = answering()

    @asynccontextmanager
    async def open_policy(
        settings: PolicySettings, weights: Weights | None, digest: str, in_flight: int
    ) -> AsyncIterator[Policy]:
        def answer(request: Request) -> str:
            return answers(request, skill(digest))

        yield ScriptedPolicy(answer, delay=delay, digest=digest)

    return open_policy


def play_with(monkeypatch: pytest.MonkeyPatch, skill: Callable[[str], float], delay: float = 0.0) -> None:
    """Let every step of this process play with a scripted policy."""
    monkeypatch.setattr("josh_pipeline.policies.open.open_policy", searcher(skill, delay))
