"""Goals from dialogues: every eligible dialogue gives a goal, or a goal with a recorded reason."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from josh_pipeline.core.ids import content_id
from josh_pipeline.environments.toolwoz.databases import Database, databases_of
from josh_pipeline.environments.toolwoz.goal import (
    DOMAINS,
    ID_KEY,
    Domain,
    DomainTask,
    Goal,
    GroundTruthCall,
    Semantics,
)
from josh_pipeline.environments.toolwoz.message import instructions, line_domains, part_message
from josh_pipeline.environments.toolwoz.records import Corpus, Dialogue
from josh_pipeline.environments.toolwoz.roles import role_of
from josh_pipeline.environments.toolwoz.semantics import AUDITED, rules_of, target
from josh_pipeline.environments.toolwoz.tools import TOOL_BY_NAME, book_parameters, search_parameters
from josh_pipeline.environments.toolwoz.values import canonical, text_of

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
    databases = databases_of(corpus)
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
    if not shares:
        reasons.append("no_goal")
    elif not calls:
        reasons.append("no_calls")
    spoken = line_domains(lines)
    order = {domain: i for i, domain in reversed(list(enumerate(spoken)))}
    tasks = sorted((share.task for share in shares), key=lambda task: order.get(task.domain, len(lines)))
    identity = [[call.tool, call.parameters, call.entity] for call in calls]
    return Goal(
        goal_id=content_id(
            "goal", corpus.digest, semantics, dialogue.dialogue_id, part, lines, identity, reasons
        ),
        source_id=dialogue.dialogue_id,
        split=dialogue.split,
        role=role_of(dialogue.dialogue_id, dialogue.split, corpus),
        kind="whole" if part is None else "part",
        title=f"{part} part of {dialogue.dialogue_id}" if part else f"whole goal of {dialogue.dialogue_id}",
        message=lines,
        calls=calls,
        excluded=reasons[0] if reasons else None,
        part=part,
        tasks=tuple(tasks),
    )


def _shares(
    dialogue: Dialogue, databases: Mapping[Domain, Database], semantics: Semantics
) -> tuple[_Share, ...]:
    if not isinstance(dialogue.goal, Mapping):
        return ()
    found = ((domain, dialogue.goal.get(domain)) for domain in DOMAINS)
    return tuple(_share(dialogue, d, share, databases[d], semantics) for d, share in found if share)


def _share(
    dialogue: Dialogue, domain: Domain, share: Any, database: Database, semantics: Semantics
) -> _Share:
    fields = {}
    for name in ("info", "fail_info", "book", "fail_book"):
        fields[name] = share.get(name) if isinstance(share, Mapping) else None
    requested = share.get("reqt") if isinstance(share, Mapping) else None
    task = DomainTask(
        domain=domain,
        info=_slots(fields["info"]),
        fail_info=_slots(fields["fail_info"]),
        book=_slots(fields["book"]),
        fail_book=_slots(fields["fail_book"]),
        requested=tuple(x for x in requested if isinstance(x, str)) if isinstance(requested, list) else (),
    )
    sound = isinstance(share, Mapping) and all(
        value is None or (isinstance(value, Mapping) and _scalars(domain, value)) for value in fields.values()
    )
    if not sound:
        return _Share(task, (), "malformed_goal")
    books = bool(fields["book"]) and domain != "attraction"
    if not fields["info"]:
        return _Share(task, (), "booking_without_search" if books else None)
    rules = rules_of(semantics)
    parameters = _parameters(task.info, search_parameters(domain), semantics)
    wanted = rules.wanted(parameters)
    if semantics == "audited" and not rules.meeting(database, wanted):
        return _Share(task, (GroundTruthCall(f"search_{domain}", parameters, None),), "no_entity")
    record, fault = _booked(dialogue, domain) if books else (None, None)
    if record is None:
        return _Share(task, (GroundTruthCall(f"search_{domain}", parameters, None),), fault)
    key = ID_KEY[domain]
    if semantics == "audited":
        row = target(database, wanted, record[key])
        record = record if row is None else record | {key: text_of(row.get(key)) or record[key]}
    booking = _parameters(task.book, book_parameters(domain), semantics)
    booking |= _parameters({key: record[key]}, (key,), semantics)
    calls = (
        GroundTruthCall(f"search_{domain}", parameters, {key: record[key]}),
        GroundTruthCall(f"book_{domain}", booking, record),
    )
    return _Share(task, calls, fault)


def _slots(values: Any) -> dict[str, str]:
    """Return the slots of a goal's field: scalars as text, empties, flags and odd values dropped."""
    if not isinstance(values, Mapping):
        return {}
    texts = {k: text_of(v) for k, v in values.items() if not isinstance(v, bool)}
    return {key: text for key, text in texts.items() if text is not None and canonical(text) is not None}


def _scalars(domain: Domain, values: Mapping[str, Any]) -> bool:
    """Tell whether no parameter of the domain's tools holds a list or an object."""
    parameters = {*search_parameters(domain), *TOOL_BY_NAME[f"book_{domain}"].parameters}
    return not any(k in parameters and isinstance(v, (list, tuple, Mapping)) for k, v in values.items())


def _parameters(slots: Mapping[str, str], names: Sequence[str], semantics: Semantics) -> dict[str, str]:
    """Return a ground-truth call's parameters, in the tool's order."""
    wanted = rules_of(semantics).wanted(slots)
    return {name: slots[name] for name in names if name in wanted}


def _booked(dialogue: Dialogue, domain: Domain) -> tuple[dict[str, Any] | None, str | None]:
    """Return the booked record that names an entity, or none, and the fault of the record if any."""
    metadata = next((m for turn in reversed(dialogue.log[-2:]) if (m := _metadata(turn))), None)
    if metadata is None:
        return None, "no_metadata"
    state = metadata.get(domain)
    book = state.get("book") if isinstance(state, Mapping) else None
    booked = book.get("booked") if isinstance(book, Mapping) else None
    if not booked:
        return None, None
    last = booked[-1] if isinstance(booked, list) else None
    if not isinstance(last, Mapping):
        return None, "malformed_goal"
    key = ID_KEY[domain]
    semi = state.get("semi") if isinstance(state, Mapping) else None
    believed = semi.get(key) if isinstance(semi, Mapping) else None
    entity_id = last[key] if key in last else believed if AUDITED.wanted({key: believed}) else None
    if not isinstance(entity_id, str):
        return None, "no_booked_id"
    return {str(name): value for name, value in last.items()} | {key: entity_id}, None


def _metadata(turn: Any) -> Mapping[str, Any] | None:
    metadata = turn.get("metadata") if isinstance(turn, Mapping) else None
    return metadata if isinstance(metadata, Mapping) and metadata else None
