"""Content hashes: the ids of goals, rollouts, nodes, rows and policies.

An id depends on content alone, so that a rerun meets its own rows again.
"""

import hashlib
import json
from typing import Any

ID_HEX_DIGITS = 16
"""64 bits: among 10 million ids the chance of one collision is below 3e-6."""


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, non-ASCII kept."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def content_id(*parts: Any) -> str:
    """Hash JSON-serialisable parts, in order, to 16 hexadecimal digits."""
    text = canonical_json(parts)
    return hashlib.blake2b(text.encode(), digest_size=ID_HEX_DIGITS // 2).hexdigest()


def derived_seed(*parts: Any) -> int:
    """Derive a seed in [0, 2**31) from JSON-serialisable parts."""
    return int(content_id("seed", *parts), 16) % (1 << 31)
