"""Every query of docs/sql-cookbook.md runs on a finished home, and finds what it is made to find."""

import re
from pathlib import Path

import polars as pl
import pytest
from finished_home import copied, run_stages

from josh_pipeline.settings.training import KtoSettings
from josh_pipeline.store.home import Home

PAGE = Path(__file__).parent.parent / "docs" / "sql-cookbook.md"
RECIPES = re.findall(r"^## (.+?)\n.*?```sql\n(.*?)```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
QUERY = dict(RECIPES)
LEAK = "Did training touch an evaluated source?"
STALE = "What was made from what, and what is out of date?"
WON = "Which goals did an iteration win, and which did it lose?"
UNSEEN = "Which rows did no adapter see?"
SEEN = "What did training see?"
EMPTY = {LEAK, STALE, WON, UNSEEN}
"""Recipes that rightly find nothing in the finished home; each has a test in which it must."""


def test_there_are_about_ten_recipes_each_with_one_query() -> None:
    assert len(RECIPES) >= 10
    assert len(RECIPES) == PAGE.read_text().count("\n## ") == PAGE.read_text().count("```sql")


@pytest.mark.parametrize(("title", "sql"), RECIPES, ids=[title for title, _ in RECIPES])
def test_a_recipe_answers_its_question(finished: Home, title: str, sql: str) -> None:
    found = finished.warehouse().query(sql)
    assert isinstance(found, pl.DataFrame) and found.width > 1
    assert (found.height > 0) is (title not in EMPTY)


def test_the_leak_recipe_finds_a_trained_source_that_was_evaluated(finished: Home, tmp_path: Path) -> None:
    home = copied(finished, tmp_path)
    with home.warehouse().connection() as connection:
        connection.execute(
            "UPDATE episodes SET goal_id = (SELECT any_value(goal_id) FROM trees) WHERE episode_id = "
            "(SELECT min(episode_id) FROM current_episodes WHERE iteration = '001' AND side = 'after')"
        )
    found = home.warehouse().query(QUERY[LEAK])
    trained = home.warehouse().query("SELECT source_id FROM adapter_sources")["source_id"].to_list()
    assert found.height > 0 and set(found["source_id"]) <= set(trained)


def test_the_recipe_of_what_is_out_of_date_finds_what_a_rerun_left_behind(finished: Home, tmp_path: Path) -> None:
    home = copied(finished, tmp_path)
    (relabelled,) = run_stages(home, home.settings(), "rerun", "001", "labels")
    found = home.warehouse().query(QUERY[STALE])
    assert set(found["input_stage"]) == {"labels"} and "preferences" in set(found["stage"])
    assert set(found["input_generation"]) == {relabelled.generation.number - 1}


def test_rows_that_were_harvested_again_are_unseen_and_training_saw_the_old_ones(
    finished: Home, tmp_path: Path
) -> None:
    home = copied(finished, tmp_path)
    seen = home.warehouse().query(QUERY[SEEN])
    kto = home.settings().model_copy(update={"training": KtoSettings()})
    run_stages(home, kto, "kto", "001", "preferences")
    assert home.warehouse().query(QUERY[SEEN]).equals(seen)
    found = home.warehouse().query(QUERY[UNSEEN])
    assert set(found["method"]) == {"kto"} and set(found["generation"]) == {2}


def test_the_recipe_of_wins_and_losses_finds_each(finished: Home, tmp_path: Path) -> None:
    home = copied(finished, tmp_path)
    sides = home.warehouse().rows(
        "SELECT DISTINCT a.goal_id, a.episode_id FROM current_episodes a JOIN current_episodes b "
        "USING (iteration, role, goal_id) WHERE iteration = '001' AND role = 'test' AND a.side = 'after' "
        "AND b.side = 'before' AND a.episode_id <> b.episode_id ORDER BY 1"
    )
    with home.warehouse().connection() as connection:
        connection.execute("UPDATE episodes SET success = NOT success WHERE episode_id = ?", [
            sides[0]["episode_id"]
        ])  # fmt: skip
    assert home.warehouse().query(QUERY[WON])["goal_id"].to_list() == [sides[0]["goal_id"]]
