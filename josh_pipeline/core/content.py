"""What content is kept as: text and JSON that every reader takes back, and the hashes that name it.

An id depends on content alone, so that a rerun meets its own rows again. Models, endpoints and archives give
text and JSON that no store can hold; it is mended where it comes in, because one lone surrogate in a tree
breaks the write of the whole batch.
"""

import hashlib
import json
import math
from typing import Any

from josh_pipeline.core.messages import ToolCall

ID_HEX_DIGITS = 16
"""64 bits: among 10 million ids the chance of one collision is below 3e-6."""


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, non-ASCII kept."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def content_id(*parts: Any) -> str:
    """Hash JSON-serialisable parts, in order, to 16 hexadecimal digits."""
    text = canonical_json(parts)
    return hashlib.blake2b(text.encode(), digest_size=ID_HEX_DIGITS // 2).hexdigest()


def full_id(*parts: Any) -> str:
    """Hash JSON-serialisable parts, in order, to 64 hexadecimal digits: what nobody can find another content for."""
    return hashlib.sha256(canonical_json(parts).encode()).hexdigest()


def derived_seed(*parts: Any) -> int:
    """Derive a seed in [0, 2**31) from JSON-serialisable parts."""
    return int(content_id("seed", *parts), 16) % (1 << 31)


MAX_DEPTH = 64
"""Lists and objects inside each other. A tool takes strings, a MultiWOZ record nests five deep, and Python's
own JSON gives up below 1,000."""


def storable_text(text: str) -> str:
    """Return the text with what no UTF-8 column can hold (lone surrogates, NUL) replaced."""
    if text.isascii() and "\x00" not in text:  # nearly all, and a corpus holds tens of millions
        return text
    return text.encode("utf-8", "replace").decode().replace("\x00", "�")


def storable_value(value: Any, room: int = MAX_DEPTH) -> Any:
    """Return JSON with all its strings storable, and null for NaN, infinities and what nests too deep."""
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, dict):
        if not room:
            return None
        return {storable_text(key): storable_value(inner, room - 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [storable_value(inner, room - 1) for inner in value] if room else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def storable(value: Any) -> bool:
    """Say whether JSON can be stored and hashed as it is."""
    return bool(storable_value(value) == value)


def written_call(name: str, arguments: Any, text: str) -> ToolCall:
    """Return the call that a model wrote.

    Arguments that are no object, or none that can be stored, reach the world as an unknown parameter, which
    is refused there, so that the model sees it.

    Args:
        text: what the arguments were read from.
    """
    if not isinstance(arguments, dict) or not storable(arguments):
        arguments = {"arguments": storable_text(text)}
    return ToolCall(storable_text(name), arguments)


def json_object(text: str) -> dict[str, Any] | None:
    """Parse one storable JSON object, or return None."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and storable(value) else None
