"""The two ways of reading values: ``paper`` as the published code reads them, ``audited`` repaired.

Everything else (which row is served, which call is earned) is common to both and lives in
``serving`` and ``rewards``.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from josh_pipeline.environments.toolwoz.databases import Database, Rows
from josh_pipeline.environments.toolwoz.goal import DomainTask, Semantics
from josh_pipeline.environments.toolwoz.values import canonical, is_empty, minutes, normalise


class Rules(Protocol):
    """How one semantics reads arguments, goals and rows."""

    @property
    def name(self) -> Semantics:
        """``paper`` or ``audited``."""
        ...

    def wanted(self, parameters: Mapping[str, Any]) -> dict[str, str]:
        """Return a goal's parameters as they are compared: normalised, no empty values."""
        ...

    def served(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return a call's arguments as serving compares them: normalised, no empty values."""
        ...

    def rewarded(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return a call's arguments as the reward compares them: normalised, no empty values."""
        ...

    def matching(self, database: Database, arguments: Mapping[str, Any]) -> Rows:
        """Return the rows that a query finds."""
        ...

    def meeting(self, database: Database, wanted: Mapping[str, str]) -> Rows:
        """Return the rows that are right for a goal's parameters, as ``wanted`` returns them."""
        ...

    def identified(self, database: Database, entity_id: str) -> Rows:
        """Return the rows whose id is ``entity_id``."""
        ...

    def hidden(self, database: Database, task: DomainTask) -> Rows:
        """Return the rows that no search of a goal may find."""
        ...


class PaperRules:
    """Bug for bug: the query reads normalised arguments and raw rows, times are strict and texts."""

    name: Semantics = "paper"

    def wanted(self, parameters: Mapping[str, Any]) -> dict[str, str]:
        """Emptiness is tested on values as written."""
        return {key: normalise(value) for key, value in parameters.items() if not is_empty(value)}

    def served(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Emptiness is tested on normalised values; values that are not strings count as given."""
        lowered = {k: normalise(v) if isinstance(v, str) else v for k, v in arguments.items()}
        return {key: value for key, value in lowered.items() if not is_empty(value)}

    def rewarded(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Emptiness is tested on values as written; values that are not strings count as given."""
        return {
            key: normalise(value) if isinstance(value, str) else value
            for key, value in arguments.items()
            if not is_empty(value)
        }

    def matching(self, database: Database, arguments: Mapping[str, Any]) -> Rows:
        """Rows as written; ``leaveAt`` and ``arriveBy`` are strict and compared as texts."""
        rows = database.every
        for key, value in self.served(arguments).items():
            if not isinstance(value, str):
                continue
            if key == "leaveAt":
                rows &= database.clock_text[key].above(value)
            elif key == "arriveBy":
                rows &= database.clock_text[key].below(value)
            else:
                rows &= database.raw[key].get(value, 0)
        return rows

    def meeting(self, database: Database, wanted: Mapping[str, str]) -> Rows:
        """Rows equal to the goal in each parameter, times included, both sides normalised."""
        rows = database.every
        for key, value in wanted.items():
            rows &= database.folded[key].get(value, 0)
        return rows

    def identified(self, database: Database, entity_id: str) -> Rows:
        """Ids are compared as written."""
        return database.raw[database.id_key].get(entity_id, 0)

    def hidden(self, database: Database, task: DomainTask) -> Rows:
        """Nothing is hidden: the published code filters and discards the result."""
        return 0


class AuditedRules:
    """Repaired: both sides normalised, times inclusive and in minutes, failing entities hidden."""

    name: Semantics = "audited"

    def wanted(self, parameters: Mapping[str, Any]) -> dict[str, str]:
        """Repair ``normalised``."""
        texts = {key: canonical(value) for key, value in parameters.items()}
        return {key: text for key, text in texts.items() if text is not None}

    def served(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Repair ``normalised``."""
        return dict(self.wanted(arguments))

    def rewarded(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Repair ``normalised``."""
        return dict(self.wanted(arguments))

    def matching(self, database: Database, arguments: Mapping[str, Any]) -> Rows:
        """Repairs ``normalised`` and ``inclusive``."""
        return satisfying(database, self.wanted(arguments))

    def meeting(self, database: Database, wanted: Mapping[str, str]) -> Rows:
        """Repair ``inclusive``: a row is right for a goal when it satisfies it."""
        return satisfying(database, wanted)

    def identified(self, database: Database, entity_id: str) -> Rows:
        """Repair ``normalised``."""
        return database.canonical[database.id_key].get(canonical(entity_id) or "", 0)

    def hidden(self, database: Database, task: DomainTask) -> Rows:
        """Repair ``hidden``."""
        return failing(database, task)


def satisfying(database: Database, wanted: Mapping[str, str]) -> Rows:
    """Return the rows that satisfy parameters (repair ``inclusive``).

    Texts are equal; ``leaveAt`` is at most the row's and ``arriveBy`` at least the row's, in minutes of
    the day. A time that is none (``after lunch``) is compared as text, so that it finds nothing.

    Args:
        database: one domain's.
        wanted: normalised, no empty values; keys are search parameters of the domain.
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


def failing(database: Database, task: DomainTask) -> Rows:
    """Return the rows that the user's first wish would find and the final one would not.

    Repair ``hidden``: they satisfy ``info`` overridden by ``fail_info`` and do not satisfy ``info``. The
    dialogue says of the first wish that there is no such entity, so no search of the goal shows one.
    """
    if not task.fail_info:
        return 0
    info = {key: value for key, value in task.info.items() if key in database.columns}
    first_wish = info | {key: value for key, value in task.fail_info.items() if key in database.columns}
    rules = AuditedRules()
    return satisfying(database, rules.wanted(first_wish)) & ~satisfying(database, rules.wanted(info))


def target(database: Database, wanted: Mapping[str, str], booked_id: str) -> Mapping[str, Any] | None:
    """Return the row that a booking is about (repair ``target``).

    It is the booked entity if that satisfies the goal's search, else the first row that does; None
    where no row satisfies it.
    """
    rows = satisfying(database, wanted)
    booked = rows & AuditedRules().identified(database, booked_id)
    return database.first(booked or rows) if rows else None


PAPER, AUDITED = PaperRules(), AuditedRules()


def rules_of(semantics: Semantics) -> Rules:
    """Return the rules of a semantics."""
    return PAPER if semantics == "paper" else AUDITED
