"""What the loop does with a goal: its role, and the paper's own selection of test goals."""

from collections.abc import Sequence

from josh_pipeline.core.environment import Role
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.ids import derived_seed
from josh_pipeline.environments.toolwoz.goal import Goal
from josh_pipeline.environments.toolwoz.records import Corpus

SHARES: tuple[tuple[Role, int], ...] = (("train", 50), ("val", 20), ("test", 30))
"""Percent of the dialogues of a corpus that has no lists of its own for all three roles."""

TEST_450 = 450
"""Test goals that the paper reports on: the first so many eligible test ids in sorted order."""


def has_all_splits(corpus: Corpus) -> bool:
    """Tell whether the corpus's own lists name train, validation and test dialogues."""
    return corpus.splits == {"train", "val", "test"}


def role_of(dialogue_id: str, split: Role, corpus: Corpus) -> Role:
    """Return the role of a dialogue's goals; all its parts share it.

    It follows the corpus's lists where they name all roles; else it is drawn 50 : 20 : 30 by a hash of the
    dialogue id, so that it is the same in every corpus that holds the dialogue.
    """
    if has_all_splits(corpus):
        return split
    drawn = derived_seed("role", dialogue_id) % 100
    for role, percent in SHARES[:-1]:
        if drawn < percent:
            return role
        drawn -= percent
    return SHARES[-1][0]


def roles_sentence(corpus: Corpus) -> str:
    """Say where the roles of a corpus's goals come from."""
    if has_all_splits(corpus):
        return f"Roles follow the train, validation and test lists of {corpus.name}."
    shares = " : ".join(str(percent) for _, percent in SHARES)
    return (
        f"{corpus.name} does not name all three of train, validation and test, so roles are drawn "
        f"{shares} by a hash of the dialogue id."
    )


def paper_test_goals(corpus: Corpus, goals: Sequence[Goal]) -> list[Goal]:
    """Return the goals of the first 450 eligible test dialogues in sorted order.

    Args:
        corpus: where the goals come from.
        goals: whole goals of the corpus, excluded ones included; those keep their place in the 450.

    Raises:
        UserError: the corpus has no test list of 450 eligible dialogues.
    """
    whole = sorted((g for g in goals if g.split == "test" and g.part is None), key=lambda g: g.dialogue_id)
    if len(whole) < TEST_450:
        raise UserError(
            f"test-450 needs MultiWOZ's official test list, and {corpus.name} names {len(whole)} eligible "
            f"test dialogues: give --corpus a full MultiWOZ 2.1 archive, or use --role test."
        )
    return whole[:TEST_450]
