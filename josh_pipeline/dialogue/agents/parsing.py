"""Reading JSON that a model wrote, without ever raising."""

import json
from typing import Any

from josh_pipeline.dialogue.storable import storable


def json_object(text: str) -> dict[str, Any] | None:
    """Parse one storable JSON object, or return None."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and storable(value) else None
