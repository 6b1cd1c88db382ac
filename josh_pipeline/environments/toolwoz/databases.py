"""How values are read, and databases: immutable, indexed once, shared by every world of the process.

A set of rows is an ``int`` whose bit ``i`` is row ``i`` in file order, so that a query with several
arguments is one ``&`` each, "first" and "last" are the lowest and the highest bit, and nothing scans.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from josh_pipeline.environments.toolwoz.goal import ID_KEY, Domain
from josh_pipeline.environments.toolwoz.tools import search_parameters

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


def as_written(value: Any) -> str | None:
    """Return a string as it is, None for anything else."""
    return value if isinstance(value, str) else None


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


TIMES = ("leaveAt", "arriveBy")
Rows = int
"""A set of rows, one bit a row."""
Index = Mapping[str, Mapping[str, Rows]]
"""Column to value to the rows that hold it."""


class Ranges:
    """Rows ordered by a key; ``<``, ``<=``, ``>`` and ``>=`` cost one bisection.

    Args:
        keys: the key of each row, None for a row without one, which no range holds.
    """

    def __init__(self, keys: Sequence[Any]) -> None:
        by_key: dict[Any, Rows] = {}
        for i, key in enumerate(keys):
            if key is not None:
                by_key[key] = by_key.get(key, 0) | 1 << i
        self.keys = sorted(by_key)
        self.prefix: list[Rows] = [0]
        for key in self.keys:
            self.prefix.append(self.prefix[-1] | by_key[key])

    def below(self, key: Any) -> Rows:
        """Rows whose key is < ``key``."""
        return self.prefix[bisect_left(self.keys, key)]

    def at_most(self, key: Any) -> Rows:
        """Rows whose key is <= ``key``."""
        return self.prefix[bisect_right(self.keys, key)]

    def above(self, key: Any) -> Rows:
        """Rows whose key is > ``key``."""
        return self.prefix[-1] & ~self.at_most(key)

    def at_least(self, key: Any) -> Rows:
        """Rows whose key is >= ``key``."""
        return self.prefix[-1] & ~self.below(key)


class Database:
    """The rows of one domain.

    Args:
        domain: whose rows they are.
        rows: in file order; kept, not copied, and never changed.

    Attributes:
        every: the set of all rows.
        columns: what is indexed: the search parameters and the id.
        times: those of them that are times of the day.
    """

    def __init__(self, domain: Domain, rows: Sequence[Mapping[str, Any]]) -> None:
        self.domain = domain
        self.rows = tuple(rows)
        self.id_key = ID_KEY[domain]
        self.every: Rows = (1 << len(self.rows)) - 1
        self.columns = (*search_parameters(domain), self.id_key)
        self.times = tuple(column for column in self.columns if column in TIMES)

    @cached_property
    def raw(self) -> Index:
        """Column to value to rows, strings as written."""
        return self._equal(as_written)

    @cached_property
    def folded(self) -> Index:
        """Column to value to rows, strings normalised, numbers left out."""
        return self._equal(folded)

    @cached_property
    def canonical(self) -> Index:
        """Column to value to rows, scalars as normalised text."""
        return self._equal(canonical)

    @cached_property
    def clock_text(self) -> Mapping[str, Ranges]:
        """Time column to its rows ordered by the text as written."""
        return {c: Ranges([as_written(row.get(c)) for row in self.rows]) for c in self.times}

    @cached_property
    def clock(self) -> Mapping[str, Ranges]:
        """Time column to its rows ordered by the minutes of the day."""
        return {c: Ranges([minutes(canonical(row.get(c)) or "") for row in self.rows]) for c in self.times}

    def _equal(self, view: Callable[[Any], Any]) -> Index:
        index: dict[str, dict[str, Rows]] = {column: {} for column in self.columns}
        for i, row in enumerate(self.rows):
            for column in self.columns:
                value = view(row.get(column))
                if isinstance(value, str):
                    index[column][value] = index[column].get(value, 0) | 1 << i
        return index

    def first(self, rows: Rows) -> Mapping[str, Any]:
        """Return the first row of a set that is not empty, in file order."""
        return self.rows[(rows & -rows).bit_length() - 1]

    def last(self, rows: Rows) -> Mapping[str, Any]:
        """Return the last row of a set that is not empty, in file order."""
        return self.rows[rows.bit_length() - 1]


Databases = Mapping[str, Database]
"""Domain to its database."""
