"""What the agent is shown of a tool's answer: about five fields and a count, or the whole row."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from josh_pipeline.dialogue.messages import Message, ToolCall
from josh_pipeline.world import ToolResult

Shown = Literal["compact", "full"]

COMPACT_FIELDS: Mapping[str, tuple[str, ...]] = {
    "search_restaurant": ("name", "food", "area", "pricerange"),
    "search_hotel": ("name", "type", "area", "pricerange", "stars"),
    "search_attraction": ("name", "type", "area", "entrance fee"),
    "search_train": ("trainID", "leaveAt", "arriveBy", "price"),
}
"""What a small model is shown of a row: what an offer needs, the id first. Digits are dear (a telephone
number is 12 tokens of SmolLM2's), so numbers that no call needs are left out."""


def result_json(call: ToolCall, result: ToolResult, shown: Shown) -> str:
    """Return a tool's answer as one JSON object on one line.

    ``full`` is the tool's answer as it is. ``compact`` is ``{"matches": n, field: value, ...}`` for a
    search and ``{"success": bool, "reference": text}`` for a booking. Errors are shown whole.
    """
    payload = result.payload
    if shown == "full" or result.error:
        return json.dumps(payload, ensure_ascii=False)
    if "rows" in payload:
        answer: dict[str, Any] = {"matches": result.matches}
        if payload["rows"]:
            row = payload["rows"][0]
            fields = COMPACT_FIELDS.get(call.name, tuple(row)[:5])
            answer |= {field: row[field] for field in fields if field in row}
        return json.dumps(answer, ensure_ascii=False)
    kept = {key: payload[key] for key in ("success", "reference") if payload.get(key) is not None}
    return json.dumps(kept, ensure_ascii=False)


def result_message(call: ToolCall, result: ToolResult, shown: Shown) -> Message:
    """Return the ``tool`` message that carries one answer."""
    return Message(role="tool", content=result_json(call, result, shown), error=result.error)
