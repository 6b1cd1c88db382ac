"""The two ways of reading values: ``audited``, repaired, and ``paper``, as the published code reads them.

Everything else (which row is served, which call is earned) is common to both and lives in ``world``.
"""

from collections.abc import Mapping
from typing import Any

from josh_pipeline.environments.toolwoz.databases import (
    Database,
    Index,
    Rows,
    canonical,
    folded,
    is_empty,
    minutes,
    normalise,
)
from josh_pipeline.environments.toolwoz.goal import DomainTask, Semantics


class Rules:
    """``audited``: both sides normalised, times inclusive and in minutes, failing entities hidden."""

    name: Semantics = "audited"

    def wanted(self, parameters: Mapping[str, Any]) -> dict[str, str]:
        """Return a goal's parameters as they are compared: no empty values (repair ``normalised``)."""
        texts = {key: canonical(value) for key, value in parameters.items()}
        return {key: text for key, text in texts.items() if text is not None}

    def served(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a call's arguments as serving compares them: no empty values (repair ``normalised``)."""
        return self.wanted(arguments)

    def rewarded(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a call's arguments as the reward compares them: no empty values (repair ``normalised``)."""
        return self.wanted(arguments)

    def matching(self, database: Database, served: Mapping[str, Any]) -> Rows:
        """Return the rows that a query finds, its arguments read as ``served`` reads them."""
        return self.meeting(database, served)

    def meeting(self, database: Database, wanted: Mapping[str, str]) -> Rows:
        """Return the rows that are right for a goal's parameters, as ``wanted`` reads them.

        They satisfy it (repair ``inclusive``): texts are equal; ``leaveAt`` is at most the row's and
        ``arriveBy`` at least the row's, in minutes of the day. A time that is none (``after lunch``) is
        compared as text, so that it finds nothing.
        """
        rows = database.every
        for key, value in wanted.items():
            clock = minutes(value) if key in database.times else None
            if clock is None:
                rows &= database.canonical[key].get(value, 0)
            elif key == "leaveAt":
                rows &= database.clock[key].at_least(clock)
            else:
                rows &= database.clock[key].at_most(clock)
        return rows

    def identified(self, database: Database, entity_id: str) -> Rows:
        """Return the rows whose id is ``entity_id`` (repair ``normalised``)."""
        return database.canonical[database.id_key].get(canonical(entity_id) or "", 0)

    def target(self, database: Database, wanted: Mapping[str, str], booked_id: str) -> Mapping[str, Any] | None:
        """Return the row that a booking is about (repair ``target``).

        It is the booked entity if that satisfies the goal's search, else the first row that does; None
        where no row satisfies it, and where the booking is about what was booked.
        """
        rows = self.meeting(database, wanted)
        booked = rows & self.identified(database, booked_id)
        return database.first(booked or rows) if rows else None

    def hidden(self, database: Database, task: DomainTask) -> Rows:
        """Return the rows that no search of a goal may find (repair ``hidden``).

        The user's first wish (``info`` overridden by ``fail_info``) would find them and the final one would
        not: the dialogue says of the first wish that there is no such entity.
        """
        if not task.fail_info:
            return 0
        info = {key: value for key, value in task.info.items() if key in database.columns}
        first_wish = info | {key: value for key, value in task.fail_info.items() if key in database.columns}
        return self.meeting(database, self.wanted(first_wish)) & ~self.meeting(database, self.wanted(info))


class PaperRules(Rules):
    """Bug for bug: the query reads normalised arguments and raw rows, times are strict and texts."""

    name: Semantics = "paper"

    def wanted(self, parameters: Mapping[str, Any]) -> dict[str, str]:
        """Emptiness is tested on values as written."""
        return {key: normalise(value) for key, value in parameters.items() if not is_empty(value)}

    def served(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Emptiness is tested on normalised values; values that are not strings count as given."""
        lowered = {k: normalise(v) if isinstance(v, str) else v for k, v in arguments.items()}
        return {key: value for key, value in lowered.items() if not is_empty(value)}

    def rewarded(self, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
        """Emptiness is tested on values as written; values that are not strings count as given."""
        return {key: folded(value) for key, value in arguments.items() if not is_empty(value)}

    def matching(self, database: Database, served: Mapping[str, Any]) -> Rows:
        """Rows as written; ``leaveAt`` and ``arriveBy`` are strict and compared as texts."""
        return strictly_matching(database, served, database.raw)

    def meeting(self, database: Database, wanted: Mapping[str, str]) -> Rows:
        """Rows equal to the goal in each parameter, times included, both sides normalised."""
        rows = database.every
        for key, value in wanted.items():
            rows &= database.folded[key].get(value, 0)
        return rows

    def identified(self, database: Database, entity_id: str) -> Rows:
        """Ids are compared as written."""
        return database.raw[database.id_key].get(entity_id, 0)

    def target(self, database: Database, wanted: Mapping[str, str], booked_id: str) -> Mapping[str, Any] | None:
        """A booking is about what was booked."""
        return None

    def hidden(self, database: Database, task: DomainTask) -> Rows:
        """Nothing is hidden: the published code filters and discards the result."""
        return 0


def strictly_matching(database: Database, query: Mapping[str, Any], index: Index) -> Rows:
    """Return what a query finds where times are strict and compared as texts.

    Args:
        query: values that are no texts do not filter.
        index: how the values of rows are read.
    """
    rows = database.every
    for key, value in query.items():
        if not isinstance(value, str):
            continue
        if key == "leaveAt":
            rows &= database.clock_text[key].above(value)
        elif key == "arriveBy":
            rows &= database.clock_text[key].below(value)
        else:
            rows &= index[key].get(value, 0)
    return rows


AUDITED, PAPER = Rules(), PaperRules()
RULES: Mapping[Semantics, Rules] = {"audited": AUDITED, "paper": PAPER}
