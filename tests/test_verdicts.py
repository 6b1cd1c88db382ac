"""What the checks of the assets find: nothing in a sound home, and each fault where one was put in."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from finished_home import copied, step_of
from josh_pipeline.stages.scopes import corpus_scope, goals_scope
from josh_pipeline.stages.verdicts import (
    Verdict,
    calls_unseen,
    ceiling_high,
    corpus_complete,
    corpus_unchanged,
    goals_solvable,
    labels_balanced,
    nothing_leaks,
    trees_rewarded,
)

from josh_pipeline.settings import Settings, UserSettings
from josh_pipeline.stages.step import Step
from josh_pipeline.store.home import Home

ITERATION = "002"


@pytest.fixture
def step(finished: Home, tmp_path: Path) -> Step:
    home = copied(finished, tmp_path)
    return step_of(home, home.settings(), "checks")


def change(step: Step, sql: str) -> None:
    with step.warehouse.connection() as connection:
        connection.execute(sql)


def read_corpus(step: Step) -> Verdict:
    generation = step.warehouse.current("corpus", corpus_scope(step.settings.corpus))
    assert generation is not None
    return corpus_unchanged(step, generation)


def test_a_sound_home_passes_every_check(step: Step) -> None:
    per_iteration: list[Callable[[Step, str], Verdict]] = [trees_rewarded, nothing_leaks, labels_balanced]
    found = [corpus_complete(step), read_corpus(step), goals_solvable(step), ceiling_high(step)]
    found += [check(step, ITERATION) for check in per_iteration]
    assert [one.sentence for one in found if not one.passed] == []
    assert all(one.numbers and one.sentence.endswith(".") for one in found)


def test_a_lost_dialogue_and_a_doubled_one_are_counted(step: Step) -> None:
    change(step, "DELETE FROM dialogues WHERE dialogue_id = (SELECT min(dialogue_id) FROM dialogues)")
    lost = corpus_complete(step)
    assert not lost.passed and "119 dialogues are stored, 120 were read" in lost.sentence
    change(step, "INSERT INTO dialogues SELECT * FROM dialogues ORDER BY dialogue_id LIMIT 1")
    doubled = corpus_complete(step)
    assert not doubled.passed and "1 dialogues share the id of another" in doubled.sentence


def test_a_source_that_changed_since_it_was_read_is_warned_about(step: Step) -> None:
    scope = corpus_scope(step.settings.corpus)
    change(
        step,
        "INSERT INTO corpora BY NAME "
        "SELECT * REPLACE (2 AS generation, 'other' AS corpus_digest) FROM corpora",
    )
    change(step, f"UPDATE generations SET generation = 2 WHERE stage = 'corpus' AND scope = '{scope}'")
    found = read_corpus(step)
    assert not found.passed and found.numbers["digest"] == "other" != found.numbers["digest before"]


def test_goals_that_no_oracle_solves_are_counted_by_role(step: Step) -> None:
    change(
        step,
        "UPDATE solvability SET solvable = false "
        "WHERE goal_id IN (SELECT goal_id FROM goals WHERE role = 'val')",
    )
    found = goals_solvable(step)
    assert not found.passed and found.numbers["solvable share, val"] == 0
    assert found.numbers["solvable share, train"] == 1


def test_the_ceiling_is_of_the_rule_based_user_only(step: Step) -> None:
    found = ceiling_high(step)
    assert found.numbers["goals"] == 12 and found.numbers["ceiling"] > 0.9
    talking = step.settings.model_copy(update={"user": UserSettings(kind="goal")})
    other = Step(step.home, step.warehouse, Settings.model_validate(talking.model_dump()), "", step.progress)
    assert ceiling_high(other).passed and not ceiling_high(other).numbers


def test_trees_without_a_reward_are_warned_about(step: Step) -> None:
    change(step, "UPDATE trees SET reward = 0")
    found = trees_rewarded(step, ITERATION)
    assert not found.passed and "Nothing can be learnt" in found.sentence


def test_a_row_from_a_held_out_goal_or_dialogue_leaks(step: Step) -> None:
    one = step.warehouse.rows(
        "SELECT r.goal_id, g.dialogue_id, count(*) AS rows FROM current_preference_rows r "
        "JOIN current_goals g USING (goal_id) WHERE iteration = '002' GROUP BY ALL ORDER BY 1"
    )[0]
    whole = "kind = 'whole' AND dialogue_id = '{dialogue_id}'".format(**one)
    change(step, f"UPDATE goals SET role = 'test' WHERE {whole}")
    dialogue = nothing_leaks(step, ITERATION)
    assert not dialogue.passed
    assert dialogue.numbers["of held-out goals"] == 0 < dialogue.numbers["of held-out dialogues"]
    change(step, f"UPDATE goals SET role = 'val' WHERE goal_id = '{one['goal_id']}'")
    goal = nothing_leaks(step, ITERATION)
    assert goal.numbers["of held-out goals"] == one["rows"]


def test_rows_whose_goal_wants_the_calls_of_an_evaluated_goal_are_counted(step: Step) -> None:
    before = calls_unseen(step, ITERATION)
    rows = before.numbers["rows"]
    change(step, "UPDATE goals SET calls = (SELECT calls FROM goals WHERE kind = 'part' LIMIT 1)")
    alike = calls_unseen(step, ITERATION)
    assert not alike.passed and alike.numbers["rows with evaluated calls"] == rows > 0
    assert (alike.numbers["evaluated sets of calls"], alike.numbers["of them learnt from"]) == (1, 1)
    change(
        step,
        'UPDATE goals SET calls = \'[{"tool": "t", "entity": null, "parameters": {"id": "\' '
        "|| goal_id || '\"}}]'",
    )
    apart = calls_unseen(step, ITERATION)
    assert apart.passed and apart.numbers["rows with evaluated calls"] == 0


def test_the_order_of_calls_makes_no_difference_between_goals(step: Step) -> None:
    scope = goals_scope(step.settings)
    calls = [{"tool": "a", "parameters": {}, "entity": None}, {"tool": "b", "parameters": {}, "entity": None}]
    change(step, f"UPDATE goals SET calls = '{json.dumps(calls)}' WHERE role = 'train'")
    change(step, f"UPDATE goals SET calls = '{json.dumps(calls[::-1])}' WHERE role <> 'train'")
    assert step.warehouse.rows("SELECT DISTINCT scope FROM goals") == [{"scope": scope}]
    assert calls_unseen(step, ITERATION).numbers["of them learnt from"] == 1


@pytest.mark.parametrize(("undesirable", "passed"), [("position % 2 = 0", True), ("true", False)])
def test_a_side_that_hardly_weighs_is_warned_about(step: Step, undesirable: str, passed: bool) -> None:
    change(step, f"UPDATE preference_rows SET method = 'kto', desirable = NOT ({undesirable})")
    found = labels_balanced(step, ITERATION)
    assert found.passed is passed
    assert found.numbers["desirable"] + found.numbers["undesirable"] > 0
