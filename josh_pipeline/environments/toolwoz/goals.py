"""Goals from dialogues: every eligible dialogue gives a goal, or a goal with a recorded reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from josh_pipeline.core.content import content_id
from josh_pipeline.environments.toolwoz.corpus import Corpus, Dialogue
from josh_pipeline.environments.toolwoz.databases import Database, Databases, canonical, text_of
from josh_pipeline.environments.toolwoz.goal import (
    DOMAINS,
    ID_KEY,
    Domain,
    DomainTask,
    Goal,
    GroundTruthCall,
    Semantics,
    instructions,
    line_domains,
    part_message,
)
from josh_pipeline.environments.toolwoz.rules import RULES
from josh_pipeline.environments.toolwoz.tools import PARAMETERS, book_parameters, search_parameters

INELIGIBLE = ("taxi", "police", "hospital")
REASONS: Mapping[str, str] = {
    "no_goal": "The record has no goal, or nothing in it to play.",
    "malformed_goal": "A part of the goal is not what MultiWOZ says it is.",
    "no_calls": "No ground-truth call follows from the goal.",
    "booking_without_search": "The goal books in a domain that it does not search.",
    "no_metadata": "Neither the last turn nor the one before says what was booked.",
    "no_booked_id": "The booked record and the belief state name no entity.",
    "no_entity": "No row of the database satisfies the goal (audited semantics only).",
}
"""Why a goal cannot be used: the values of ``Goal.excluded``."""


def eligible(dialogue: Dialogue) -> bool:
    """Tell whether a dialogue's goal has no taxi, police or hospital part."""
    goal = dialogue.goal
    return not (isinstance(goal, Mapping) and any(goal.get(domain) for domain in INELIGIBLE))


def derive_goals(
    corpus: Corpus, semantics: Semantics, parts: bool = False, domains: Sequence[Domain] = DOMAINS
) -> list[Goal]:
    """Derive the goals of every eligible dialogue of a corpus, in the corpus's order.

    Args:
        corpus: dialogues and databases.
        semantics: ``audited`` moves bookings to a target that the goal's search can find.
        parts: one goal for each domain of a dialogue instead of one for the dialogue.
        domains: parts of other domains, and whole goals that reach into others, are left out.

    Returns:
        Usable goals and, with ``excluded`` set, the others. Odd records never raise.
    """
    databases = corpus.indexed
    goals: list[Goal] = []
    for dialogue in corpus.dialogues:
        if not eligible(dialogue):
            continue
        shares = _shares(dialogue, databases, semantics)
        lines = instructions(dialogue.goal.get("message")) if isinstance(dialogue.goal, Mapping) else ()
        if parts and shares:
            for share in shares:
                if share.task.domain in domains:
                    part = part_message(lines, share.task)
                    goals.append(_goal(corpus, semantics, dialogue, share.task.domain, part, [share]))
        elif all(share.task.domain in domains for share in shares):
            goals.append(_goal(corpus, semantics, dialogue, None, lines, shares))
    return goals


@dataclass(frozen=True)
class _Share:
    """What one domain adds to a goal."""

    task: DomainTask
    calls: tuple[GroundTruthCall, ...]
    excluded: str | None


def _goal(
    corpus: Corpus,
    semantics: Semantics,
    dialogue: Dialogue,
    part: Domain | None,
    lines: tuple[str, ...],
    shares: Sequence[_Share],
) -> Goal:
    calls = tuple(call for share in shares for call in share.calls)
    reasons = [share.excluded for share in shares if share.excluded]
    if not calls:
        reasons.append("no_calls" if shares else "no_goal")
    spoken = line_domains(lines)
    order = {domain: place for place, domain in reversed([*enumerate(spoken)])}
    tasks = sorted((share.task for share in shares), key=lambda task: order.get(task.domain, len(lines)))
    source = dialogue.dialogue_id
    identity = [[call.tool, call.parameters, call.entity] for call in calls]
    return Goal(
        goal_id=content_id("goal", corpus.digest, semantics, source, part, lines, identity, reasons),
        source_id=source,
        split=dialogue.split,
        role=corpus.role_of(dialogue),
        kind="part" if part else "whole",
        title=f"{part} part of {source}" if part else f"whole goal of {source}",
        message=lines,
        calls=calls,
        excluded=reasons[0] if reasons else None,
        part=part,
        tasks=tuple(tasks),
    )


def _shares(dialogue: Dialogue, databases: Databases, semantics: Semantics) -> tuple[_Share, ...]:
    if not isinstance(dialogue.goal, Mapping):
        return ()
    found = ((domain, dialogue.goal.get(domain)) for domain in DOMAINS)
    return tuple(_share(dialogue, d, share, databases[d], semantics) for d, share in found if share)


def _share(dialogue: Dialogue, domain: Domain, share: Any, database: Database, semantics: Semantics) -> _Share:
    held: Mapping[str, Any] = share if isinstance(share, Mapping) else {}
    fields = {name: held.get(name) for name in ("info", "fail_info", "book", "fail_book")}
    requested = held.get("reqt")
    task = DomainTask(
        domain,
        **{name: _slots(value) for name, value in fields.items()},
        requested=tuple(x for x in requested if isinstance(x, str)) if isinstance(requested, list) else (),
    )
    readable = (value is None or (isinstance(value, Mapping) and _scalars(domain, value)) for value in fields.values())
    if not (isinstance(share, Mapping) and all(readable)):
        return _Share(task, (), "malformed_goal")
    books = bool(fields["book"]) and domain != "attraction"
    if not fields["info"]:
        return _Share(task, (), "booking_without_search" if books else None)
    rules = RULES[semantics]

    def parameters(slots: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
        """In the tool's order."""
        wanted = rules.wanted(slots)
        return {name: slots[name] for name in names if name in wanted}

    search, found = f"search_{domain}", parameters(task.info, search_parameters(domain))
    wanted = rules.wanted(found)
    if semantics == "audited" and not rules.meeting(database, wanted):
        return _Share(task, (GroundTruthCall(search, found, None),), "no_entity")
    record, fault = _booked(dialogue, domain) if books else (None, None)
    if record is None:
        return _Share(task, (GroundTruthCall(search, found, None),), fault)
    key = ID_KEY[domain]
    row = rules.target(database, wanted, record[key])
    record = record if row is None else record | {key: text_of(row.get(key)) or record[key]}
    named = {key: record[key]}
    booking = parameters(task.book, book_parameters(domain)) | parameters(named, (key,))
    calls = (GroundTruthCall(search, found, named), GroundTruthCall(f"book_{domain}", booking, record))
    return _Share(task, calls, fault)


def _slots(values: Any) -> dict[str, str]:
    """Return the slots of a goal's field: scalars as text, empties, flags and odd values dropped."""
    if not isinstance(values, Mapping):
        return {}
    texts = {k: text_of(v) for k, v in values.items() if not isinstance(v, bool)}
    return {key: text for key, text in texts.items() if text is not None and canonical(text) is not None}


def _scalars(domain: Domain, values: Mapping[str, Any]) -> bool:
    """Tell whether no parameter of the domain's tools holds a list or an object."""
    parameters = {*PARAMETERS[f"search_{domain}"], *PARAMETERS[f"book_{domain}"]}
    return not any(k in parameters and isinstance(v, (list, tuple, Mapping)) for k, v in values.items())


def _booked(dialogue: Dialogue, domain: Domain) -> tuple[dict[str, Any] | None, str | None]:
    """Return the booked record that names an entity, or none, and the fault of the record if any."""
    metadata = next((m for turn in reversed(dialogue.log[-2:]) if (m := _mapping(turn, "metadata"))), None)
    if metadata is None:
        return None, "no_metadata"
    booked = _mapping(_mapping(metadata, domain), "book").get("booked")
    if not booked:
        return None, None
    last = booked[-1] if isinstance(booked, list) else None
    if not isinstance(last, Mapping):
        return None, "malformed_goal"
    key = ID_KEY[domain]
    believed = _mapping(_mapping(metadata, domain), "semi").get(key)
    entity_id = last[key] if key in last else believed if canonical(believed) else None
    if not isinstance(entity_id, str):
        return None, "no_booked_id"
    return {str(name): value for name, value in last.items()} | {key: entity_id}, None


def _mapping(value: Any, key: str) -> Mapping[str, Any]:
    """Return the mapping under a key of a mapping; an empty one where either is none."""
    inner = value.get(key) if isinstance(value, Mapping) else None
    return inner if isinstance(inner, Mapping) else {}
