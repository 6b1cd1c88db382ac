"""Reading JSON that a model wrote, without ever raising."""

import json
from typing import Any


def storable_text(text: str) -> str:
    """Return the text with what no UTF-8 column can hold (lone surrogates, NUL) replaced."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "�")


def storable(value: Any) -> bool:
    """Say whether a value can be stored and hashed as JSON: no NaN, infinity, NUL or lone surrogate."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return storable_text(text) == text and "\\u0000" not in text


def json_object(text: str) -> dict[str, Any] | None:
    """Parse one storable JSON object, or return None."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and storable(value) else None
