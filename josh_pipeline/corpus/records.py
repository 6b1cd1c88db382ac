"""What a corpus is, once it has been read, wherever it came from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Split = Literal["train", "val", "test"]
"""A corpus's own list that a dialogue stands on."""

SPLITS: tuple[Split, ...] = ("train", "val", "test")
DATABASE_DOMAINS = ("hotel", "restaurant", "attraction", "train")
"""Domains whose databases are searched; MultiWOZ ships no useful ones for the others."""


@dataclass(frozen=True)
class Dialogue:
    """One MultiWOZ record, as released.

    Attributes:
        dialogue_id: upper or mixed case as released, without ``.json``.
        split: the list of the corpus that names it.
        goal: the record's ``goal``: a mapping of domain to info, book, ...; ``message`` inside.
        log: the record's turns, user first; system turns carry ``metadata``.
    """

    dialogue_id: str
    split: Split
    goal: Mapping[str, Any]
    log: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Corpus:
    """Dialogues, the databases beside them, and where they came from.

    Attributes:
        name: short name shown to people, e.g. ``sample-600`` or ``multiwoz-2.1-dev``.
        digest: content hash of all that was read.
        source: the folder, zip or URL, or ``built-in sample corpus``.
        licence: one sentence.
        dialogues: sorted by dialogue id.
        databases: domain (hotel, restaurant, attraction, train) to its rows, in file order.
    """

    name: str
    digest: str
    source: str
    licence: str
    dialogues: tuple[Dialogue, ...]
    databases: Mapping[str, tuple[Mapping[str, Any], ...]]
