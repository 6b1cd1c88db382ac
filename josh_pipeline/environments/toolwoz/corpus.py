"""What a corpus is once it has been read, wherever it came from, and which role each dialogue has."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from josh_pipeline.core.environment import ROLE_SHARES, ROLES, Role, drawn_role
from josh_pipeline.environments.toolwoz.databases import Database, Databases
from josh_pipeline.environments.toolwoz.goal import DOMAINS

Split = Role
"""A corpus's own list that a dialogue stands on: the lists have the names of the roles."""


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

    @cached_property
    def words(self) -> tuple[str | None, ...]:
        """What was said in each turn; None where the record of it is odd: the reader keeps those too."""
        texts = (turn.get("text") for turn in self.log)
        return tuple(text.strip() if isinstance(text, str) else None for text in texts)


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
    def by_id(self) -> Mapping[str, Dialogue]:
        """Dialogues by id."""
        return {dialogue.dialogue_id: dialogue for dialogue in self.dialogues}

    @cached_property
    def indexed(self) -> Databases:
        """The databases, indexed once and shared by every world."""
        return {domain: Database(domain, self.databases.get(domain, ())) for domain in DOMAINS}

    @cached_property
    def has_all_splits(self) -> bool:
        """Its own lists name train, validation and test dialogues."""
        return {dialogue.split for dialogue in self.dialogues} == set(ROLES)

    def role_of(self, dialogue: Dialogue) -> Role:
        """Return the role of a dialogue's goals; all its parts share it.

        It follows the corpus's lists where they name all roles; else it is drawn 50 : 20 : 30 by a hash of
        the dialogue id, so that it is the same in every corpus that holds the dialogue.
        """
        if self.has_all_splits:
            return dialogue.split
        return drawn_role(dialogue.dialogue_id)

    @property
    def roles_sentence(self) -> str:
        """Where the roles of its goals come from."""
        if self.has_all_splits:
            return f"Roles follow the train, validation and test lists of {self.name}."
        return (
            f"{self.name} does not name all three of train, validation and test, so roles are drawn "
            f"{' : '.join(map(str, ROLE_SHARES.values()))} by a hash of the dialogue id."
        )
