"""What a server of the chat API refuses of a request, learned from its answers: servers and models differ.

Newer models want ``max_completion_tokens`` in place of ``max_tokens`` and take no temperature but their own; some take
no seed; ``top_k`` is vLLM's and SGLang's, and not of the API.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from josh_pipeline.core.content import json_object
from josh_pipeline.core.policy import Sampling

Refusal = tuple[str, float | None]
"""A parameter's name and the value that was refused; None where no value of it is taken."""
Refusals = frozenset[Refusal]
RESULTS: Refusal = ("messages", None)
"""The results of tools in the role ``tool``, where they follow no call of the API."""
LIMIT: Refusal = ("max_tokens", None)
BY_NAME = ("max_tokens", "seed")
"""Parameters that are refused or taken whatever their value is."""
BLAMED = ("max_tokens", "top_k", "top_p", "seed", "temperature")
"""In this order, where a refusal names several: what costs least is given up first."""


def parameters(sampling: Sampling, seed: int, refusals: Refusals) -> dict[str, Any]:
    """Return how a server is asked to sample: all that it has not refused."""
    wanted: dict[str, Any] = {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": seed,
        **({"top_k": sampling.top_k} if sampling.top_k else {}),
    }
    taken = {name: value for name, value in wanted.items() if refusal(name, value) not in refusals}
    return taken if LIMIT not in refusals else taken | {"max_completion_tokens": sampling.max_tokens}


def refusal(name: str, value: Any) -> Refusal:
    """Return the refusal of a parameter with a value."""
    return name, None if name in BY_NAME else value


def blamed(text: str, sent: Mapping[str, Any]) -> Refusal | None:
    """Return what a server's refusal is about; None where it names no parameter that can be given up.

    Args:
        text: the body of its answer.
        sent: parameters of the request.
    """
    match json_object(text):
        case {"error": {"param": str(name)}}:
            names: Iterable[str] = [name]
        case _:
            names = [name for name in BLAMED if re.search(rf"\b{name}\b", text)]
    return next((refusal(name, sent[name]) for name in names if name in BLAMED and name in sent), None)


def unmet(refusals: Refusals) -> str:
    """Say what of the settings a server does not do, and what follows; empty where nothing was lost."""
    return ", ".join(filter(None, (_lost(name, value) for name, value in sorted(refusals, key=str))))


def _lost(name: str, value: float | None) -> str:
    match name, value:
        case "temperature", 0:
            return "temperature 0 (its answers are not greedy: an evaluation that is repeated may differ)"
        case "temperature", _:
            return f"temperature {value:g} (it samples at its own)"
        case "top_p", float() if value != 1:
            return f"top_p {value:g} (it samples as if it were 1)"
        case "top_k", _:
            return f"top_k {value:g} (it samples from all tokens)"
        case "seed", _:
            return "a seed (the same request may be answered in other words)"
    # The limit has another name there, a top_p of 1 means all tokens, and results are sent as the user's.
    return ""
