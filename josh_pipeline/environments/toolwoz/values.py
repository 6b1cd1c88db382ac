"""How values are read: normalising, empty values, and times of the day."""

import re
from collections.abc import Mapping
from typing import Any

EMPTY = frozenset({"", "dont care", "don't care", "dontcare", "do n't care", "not mentioned"})
"""Values that stand for no constraint, as written in MultiWOZ."""

CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2})")


def normalise(text: str) -> str:
    """Return the lower case text without apostrophes."""
    return text.lower().replace("'", "")


EMPTY_NORMALISED = frozenset(normalise(value) for value in EMPTY)


def is_empty(value: Any) -> bool:
    """Tell whether a value, as written, is one of ``EMPTY``. Null is not, lists are not."""
    return isinstance(value, str) and value in EMPTY


def text_of(value: Any) -> str | None:
    """Return a scalar as text (``3`` is ``"3"``, ``true`` is ``"true"``); None for null, lists, objects.

    A whole number too long for Python to print is None too.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value.bit_length() > 10_000:
        return None
    return str(value) if isinstance(value, (int, float)) else None


def canonical(value: Any) -> str | None:
    """Return the normalised text of a scalar, or None where that is empty (repair ``normalised``).

    Null, lists and objects are None as well.
    """
    text = text_of(value)
    if text is None:
        return None
    text = normalise(text)
    return None if text in EMPTY_NORMALISED else text


def folded(value: Any) -> Any:
    """Return a string normalised, anything else as it is, None for an empty string as written.

    This is how the published code reads a value before it compares.
    """
    if not isinstance(value, str):
        return value
    return None if value in EMPTY else normalise(value)


def minutes(clock: str) -> int | None:
    """Return minutes since midnight of ``H:MM`` or ``HH:MM``, else None.

    Hours may pass 23: trains of the corpus arrive at ``24:08``, eight past midnight.
    """
    match = CLOCK.fullmatch(clock)
    return int(match[1]) * 60 + int(match[2]) if match and int(match[2]) < 60 else None


def contains(larger: Mapping[str, Any], smaller: Mapping[str, Any]) -> bool:
    """Tell whether every value of ``smaller`` stands under the same key in ``larger``.

    Both hold no empty values and are normalised.
    """
    return all(key in larger and larger[key] == value for key, value in smaller.items())
