"""What a corpus is, once it has been read, wherever it came from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
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

    @cached_property
    def splits(self) -> frozenset[Split]:
        """The lists that name a dialogue."""
        return frozenset(dialogue.split for dialogue in self.dialogues)

    @cached_property
    def by_id(self) -> Mapping[str, Dialogue]:
        """Dialogues by id."""
        return {dialogue.dialogue_id: dialogue for dialogue in self.dialogues}


def words(turn: Mapping[str, Any]) -> str | None:
    """Return what was said in a turn; None where the record of it is odd: the reader keeps those too."""
    text = turn.get("text")
    return text.strip() if isinstance(text, str) else None


def write_corpus(corpus: Corpus, folder: Path) -> None:
    """Write ``data.json``, ``valListFile``, ``testListFile`` and ``<domain>_db.json``.

    Reading the folder back gives the same dialogues and databases.

    Args:
        corpus: what to write.
        folder: made if need be; files of these names in it are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    records = {f"{d.dialogue_id}.json": {"goal": d.goal, "log": d.log} for d in corpus.dialogues}
    (folder / "data.json").write_text(json.dumps(records), encoding="utf-8")
    for name, split in (("valListFile", "val"), ("testListFile", "test")):
        ids = [f"{d.dialogue_id}.json\n" for d in corpus.dialogues if d.split == split]
        (folder / name).write_text("".join(ids), encoding="utf-8")
    for domain, rows in corpus.databases.items():
        (folder / f"{domain}_db.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
