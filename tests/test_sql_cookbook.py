"""Every query of docs/sql-cookbook.md runs on a finished home, and those that must find something do."""

import re
from pathlib import Path

import polars as pl
import pytest

from josh_pipeline.home import Home

PAGE = Path(__file__).parent.parent / "docs" / "sql-cookbook.md"
RECIPES = re.findall(r"^## (.+?)\n.*?```sql\n(.*?)```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
EMPTY = {
    "Did training touch an evaluated dialogue?": "a row here would be a leak",
    "What was made from what, and what is out of date?": "nothing was rerun",
    "Which goals did an iteration win, and which did it lose?": "the policy stayed the same",
}
"""Recipes that find nothing in this home, and why."""


def test_there_are_about_ten_recipes_each_with_one_query() -> None:
    assert len(RECIPES) >= 10
    assert len(RECIPES) == PAGE.read_text().count("\n## ") == PAGE.read_text().count("```sql")


@pytest.mark.parametrize(("title", "sql"), RECIPES, ids=[title for title, _ in RECIPES])
def test_a_recipe_answers_its_question(finished: Home, title: str, sql: str) -> None:
    found = finished.warehouse().query(sql)
    assert isinstance(found, pl.DataFrame) and found.width > 1
    if title not in EMPTY:
        assert found.height > 0
    elif title.startswith("Did training"):
        assert found.height == 0
