"""Databases: immutable, indexed once, shared by every world of the process.

A set of rows is an ``int`` whose bit ``i`` is row ``i`` in file order, so that a query with several
arguments is one ``&`` each, "first" and "last" are the lowest and the highest bit, and nothing scans.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from josh_pipeline.environments.toolwoz.corpus import Corpus
from josh_pipeline.environments.toolwoz.goal import DOMAINS, ID_KEY, Domain
from josh_pipeline.environments.toolwoz.tools import search_parameters
from josh_pipeline.environments.toolwoz.values import canonical, folded, minutes

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

_BUILT: dict[tuple[str, int], tuple[Mapping[str, Any], Databases]] = {}
"""The rows stand beside what was built from them, so that their id is not given to others."""
_KEPT = 4


def databases_of(corpus: Corpus) -> Databases:
    """Return the indexed databases of a corpus, built once a process.

    The last few corpora stay in memory: a run reads one, tests read some.
    """
    key = (corpus.digest, id(corpus.databases))
    if key not in _BUILT:
        while len(_BUILT) >= _KEPT:
            _BUILT.pop(next(iter(_BUILT)), None)
        built: Databases = {domain: Database(domain, corpus.databases.get(domain, ())) for domain in DOMAINS}
        _BUILT[key] = (corpus.databases, built)
    return _BUILT[key][1]


def as_written(value: Any) -> str | None:
    """Return a string as it is, None for anything else."""
    return value if isinstance(value, str) else None
