"""What the checks of the assets find: nothing in a sound home, and each fault where one was put in."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from finished_home import copied, step_of

from josh_pipeline.harvest.rows import Side
from josh_pipeline.settings import Settings, UserSettings
from josh_pipeline.stages.environment import corpus_complete, corpus_unchanged, stored_environment
from josh_pipeline.stages.goals import ceiling_high, goals_solvable
from josh_pipeline.stages.policy import policy_of
from josh_pipeline.stages.preferences import calls_unseen, labels_balanced, nothing_leaks, stored_rows
from josh_pipeline.stages.registry import BY_NAME
from josh_pipeline.stages.rollouts import trees_rewarded
from josh_pipeline.stages.stage import Step, Verdict, corpus_scope, goals_scope
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
    generation = step.warehouse.current("corpus", corpus_scope(step.settings))
    assert generation is not None
    return corpus_unchanged(step, generation)


def complete(step: Step) -> Verdict:
    return corpus_complete(step, corpus_scope(step.settings))


def of_goals(check: Callable[..., Verdict], step: Step) -> Verdict:
    environment = stored_environment(
        step.warehouse, step.settings.environment, corpus_scope(step.settings), sources=False
    )
    return check(step, environment, goals_scope(step.settings))


def unseen(step: Step) -> Verdict:
    rows = stored_rows(step.warehouse, ITERATION)
    return calls_unseen(step, policy_of(step.warehouse, ITERATION), rows)


def leaks(step: Step) -> Verdict:
    rows = stored_rows(step.warehouse, ITERATION)
    return nothing_leaks(step.warehouse, policy_of(step.warehouse, ITERATION), rows)


def test_a_sound_home_passes_every_check(step: Step) -> None:
    balance = labels_balanced(stored_rows(step.warehouse, ITERATION))
    found = [complete(step), read_corpus(step), of_goals(goals_solvable, step), of_goals(ceiling_high, step)]
    found += [leaks(step), balance, trees_rewarded(step, {"trees": 8, "rewarded": 6, "failed": 0})]
    assert [one.sentence for one in found if not one.passed] == []
    assert all(one.numbers and one.sentence.endswith(".") for one in found)


def test_every_check_that_a_stage_declares_is_answered(step: Step) -> None:
    for name in ("corpus", "goals", "labels", "preferences", "evaluation"):
        made = BY_NAME[name].run(step, ITERATION)
        assert made.verdicts.keys() == {check.name for check in BY_NAME[name].checks}


def test_a_lost_dialogue_and_a_doubled_one_are_counted(step: Step) -> None:
    change(step, "DELETE FROM sources WHERE source_id = (SELECT min(source_id) FROM sources)")
    lost = complete(step)
    assert not lost.passed and "119 sources are stored, 120 were read" in lost.sentence
    change(step, "INSERT INTO sources SELECT * FROM sources ORDER BY source_id LIMIT 1")
    doubled = complete(step)
    assert not doubled.passed and "1 sources share the id of another" in doubled.sentence


def test_a_source_that_changed_since_it_was_read_is_warned_about(step: Step) -> None:
    scope = corpus_scope(step.settings)
    change(
        step, "INSERT INTO corpora BY NAME SELECT * REPLACE (2 AS generation, 'other' AS corpus_digest) FROM corpora"
    )
    change(step, f"UPDATE generations SET generation = 2 WHERE stage = 'corpus' AND scope = '{scope}'")
    found = read_corpus(step)
    assert not found.passed and found.numbers["digest"] == "other" != found.numbers["digest before"]


def test_goals_that_no_oracle_solves_are_counted_by_role(step: Step) -> None:
    change(
        step, "UPDATE solvability SET solvable = false WHERE goal_id IN (SELECT goal_id FROM goals WHERE role = 'val')"
    )
    found = of_goals(goals_solvable, step)
    assert not found.passed and found.numbers["solvable share, part val"] == 0
    assert found.numbers["solvable share, part train"] == 1


def test_the_ceiling_is_of_the_rule_based_user_only(step: Step) -> None:
    found = of_goals(ceiling_high, step)
    assert found.numbers["goals"] == 12 and found.numbers["ceiling"] > 0.9
    talking = step.settings.model_copy(
        update={"user": UserSettings(kind="goal", model="m", endpoint="http://localhost:1/v1")}
    )
    other = Step(step.home, step.warehouse, Settings.model_validate(talking.model_dump()), "", step.progress)
    assert of_goals(ceiling_high, other).passed and not of_goals(ceiling_high, other).numbers


def test_trees_without_a_reward_are_warned_about(step: Step) -> None:
    found = trees_rewarded(step, {"trees": 8, "rewarded": 0, "failed": 0})
    assert not found.passed and "Nothing can be learnt" in found.sentence


def test_a_row_from_a_held_out_goal_or_dialogue_leaks(step: Step) -> None:
    one = step.warehouse.rows(
        "SELECT r.goal_id, g.source_id, count(*) AS rows FROM current_preference_rows r "
        "JOIN current_goals g USING (goal_id) WHERE iteration = '002' GROUP BY ALL ORDER BY 1"
    )[0]
    whole = "kind = 'whole' AND source_id = '{source_id}'".format(**one)
    change(step, f"UPDATE goals SET role = 'test' WHERE {whole}")
    dialogue = leaks(step)
    assert not dialogue.passed
    assert dialogue.numbers["held out"] == one["rows"]
    change(step, f"UPDATE goals SET role = 'val' WHERE goal_id = '{one['goal_id']}'")
    goal = leaks(step)
    assert goal.numbers["held out"] == one["rows"]


def test_rows_whose_goal_wants_the_calls_of_an_evaluated_goal_are_counted(step: Step) -> None:
    before = unseen(step)
    rows = before.numbers["rows"]
    change(step, "UPDATE goals SET calls = (SELECT calls FROM goals WHERE kind = 'part' LIMIT 1)")
    alike = unseen(step)
    assert not alike.passed and alike.numbers["rows with evaluated calls"] == rows > 0
    assert (alike.numbers["evaluated sets of calls"], alike.numbers["of them learnt from"]) == (1, 1)
    change(
        step,
        'UPDATE goals SET calls = \'[{"tool": "t", "entity": null, "parameters": {"id": "\' || goal_id || \'"}}]\'',
    )
    apart = unseen(step)
    assert apart.passed and apart.numbers["rows with evaluated calls"] == 0


def test_the_order_of_calls_makes_no_difference_between_goals(step: Step) -> None:
    scope = goals_scope(step.settings)
    calls = [{"tool": "a", "parameters": {}, "entity": None}, {"tool": "b", "parameters": {}, "entity": None}]
    change(step, f"UPDATE goals SET calls = '{json.dumps(calls)}' WHERE role = 'train'")
    change(step, f"UPDATE goals SET calls = '{json.dumps(calls[::-1])}' WHERE role <> 'train'")
    assert step.warehouse.rows("SELECT DISTINCT scope FROM goals") == [{"scope": scope}]
    assert unseen(step).numbers["of them learnt from"] == 1


@pytest.mark.parametrize(("undesirable", "passed"), [(4, True), (0, False)])
def test_a_side_that_hardly_weighs_is_warned_about(step: Step, undesirable: int, passed: bool) -> None:
    (row, *_) = stored_rows(step.warehouse, ITERATION)
    one = row.sides[0].said[-1]
    rows = [
        replace(row, sides=(Side((one,), "undesirable" if place < undesirable else "desirable"),)) for place in range(8)
    ]
    found = labels_balanced(rows)
    assert found.passed is passed
    assert found.numbers["desirable"] + found.numbers["undesirable"] == 8
