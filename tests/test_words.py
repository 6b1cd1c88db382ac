"""Numbers of things, as sentences say them."""

import pytest

from josh_pipeline.audit.text import not_holding
from josh_pipeline.core.words import number_of


@pytest.mark.parametrize(
    ("n", "words", "folders"),
    [
        (0, "0 rows", "0 files or folders"),
        (1, "1 row", "1 file or folder"),
        (1200, "1,200 rows", "1,200 files or folders"),
    ],
)
def test_one_of_a_thing_is_told_in_the_singular(n: int, words: str, folders: str) -> None:
    assert number_of(n, "row") == words
    assert number_of(n, "file or folder", "files or folders") == folders


def test_one_link_does_not_hold_and_two_do_not() -> None:
    assert (not_holding(1), not_holding(2)) == ("1 link does not hold", "2 links do not hold")
