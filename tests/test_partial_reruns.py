"""A rerun of a part of an iteration: what no longer belongs together is refused, and named by the audit."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from finished_home import copied, step_of
from tampering import alter, audited, one, said
from tiny_loop import play_with

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.locks import alone
from josh_pipeline.settings.training import KtoSettings
from josh_pipeline.stages import adapter, policy, preferences, promotion
from josh_pipeline.stages.adapter import train_adapter
from josh_pipeline.stages.evaluation import evaluate_candidate
from josh_pipeline.stages.labels import label_rewards
from josh_pipeline.stages.policy import PolicyRow, policy_of, resolve_policy
from josh_pipeline.stages.preferences import harvest_rows, training_rows
from josh_pipeline.stages.promotion import promote
from josh_pipeline.stages.registry import BASELINE_LOOP, LOOP
from josh_pipeline.stages.rollouts import roll_out, stored_trees, trees_of
from josh_pipeline.stages.stage import Stage, Step
from josh_pipeline.store.home import Home
from josh_pipeline.store.warehouse import Generation

REST_OF_001 = [train_adapter, evaluate_candidate, promote]


@pytest.fixture
def home(finished: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    play_with(monkeypatch, lambda digest: 0.8)
    return copied(finished, tmp_path)


def training_otherwise(home: Home) -> Step:
    """A step whose training ends in another adapter."""
    settings = home.settings()
    other = settings.training.model_copy(update={"learning_rate": 1e-2})
    return step_of(home, settings.model_copy(update={"training": other}), "otherwise")


def with_replay(home: Home) -> Step:
    """A step that trains on the rows of the iteration before too."""
    settings = home.settings()
    replaying = settings.harvest.model_copy(update={"replay": 1})
    return step_of(home, settings.model_copy(update={"harvest": replaying}), "replaying")


def with_another_policy_in_002(home: Home) -> Step:
    """Rerun 001 from its training on: its promotion writes another policy for 002, and nothing else of it."""
    step = training_otherwise(home)
    before = policy_of(step.warehouse, "002")
    for work in REST_OF_001:
        work(step, "001")
    assert resolve_policy(step, "002").policy_digest != before.policy_digest
    return step


def in_another_attempt(home: Home) -> Step:
    """Let 002 be refused and its policy be resolved again, which opens the second attempt at it."""
    step = step_of(home, home.settings(), "attempt")
    alter(home, "UPDATE promotions SET promoted = false WHERE iteration = '002'")
    assert resolve_policy(step, "002").attempt == 2
    return step


def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write what a release without these checks wrote."""
    monkeypatch.setattr(policy, "_is_of", lambda *_: True)
    monkeypatch.setattr(promotion, "require_measured", lambda *_: None)
    monkeypatch.setattr(preferences, "require_labelled", lambda *_: None)
    monkeypatch.setattr(adapter, "require_sound", lambda *_: None)


def test_a_candidate_that_was_trained_after_the_evaluation_is_not_promoted(home: Home) -> None:
    step = training_otherwise(home)
    train_adapter(step, "002")
    with pytest.raises(UserError, match=r"measured another candidate.*benchmark_evaluation of iteration 002"):
        promote(step, "002")
    evaluate_candidate(step, "002")
    candidate = one(home, "SELECT policy_digest FROM current_trainings WHERE iteration = '002'")
    assert promote(step, "002").facts["policy digest"] == candidate
    assert audited(home).sound


def test_a_promotion_of_what_was_never_measured_is_named_by_the_audit(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    unchecked(monkeypatch)
    step = training_otherwise(home)
    made = train_adapter(step, "002")
    promote(step, "002")
    assert f"It decided on {made.facts['policy digest']} against" in said(audited(home))


@pytest.mark.parametrize("changed", [with_another_policy_in_002, in_another_attempt])
@pytest.mark.parametrize(
    ("work", "again"),
    [
        (label_rewards, "beam_rollouts"),
        (harvest_rows, "beam_rollouts"),
        (train_adapter, "beam_rollouts, reward_labels and preference_pairs"),
        (evaluate_candidate, "beam_rollouts, reward_labels, preference_pairs and lora_adapter"),
        (promote, "beam_rollouts, reward_labels, preference_pairs, lora_adapter and benchmark_evaluation"),
    ],
)
def test_old_rows_are_not_used_with_a_new_policy_or_attempt(
    changed: Callable[[Home], Step], work: Callable[[Step, str], object], again: str, home: Home
) -> None:
    step = changed(home)
    with pytest.raises(UserError, match=f"than the iteration has now: materialize {again} of iteration 002"):
        work(step, "002")


def test_each_step_asks_for_the_one_before_it_until_all_are_of_the_new_policy(home: Home) -> None:
    step = with_another_policy_in_002(home)
    roll_out(step, "002")
    with pytest.raises(UserError, match=r"materialize reward_labels of iteration 002 again\."):
        harvest_rows(step, "002")
    label_rewards(step, "002")
    with pytest.raises(UserError, match=r"materialize preference_pairs of iteration 002 again\."):
        train_adapter(step, "002")
    harvest_rows(step, "002")
    for work in REST_OF_001:
        work(step, "002")
    assert audited(home).sound


@pytest.mark.parametrize(
    "works", [[label_rewards], [harvest_rows, train_adapter], [train_adapter], [evaluate_candidate], [promote]]
)
def test_what_mixes_two_policies_is_named_by_the_audit(
    works: list[Callable[[Step, str], object]], home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = with_another_policy_in_002(home)
    unchecked(monkeypatch)
    new = policy_of(step.warehouse, "002").policy_digest
    for work in works:
        work(step, "002")
    if works == [label_rewards]:  # labels tell where somebody trains on them
        harvest_rows(step, "002")
        train_adapter(step, "002")
    assert f"It was made with policy {new} (attempt 1" in said(audited(home))


def test_a_policy_that_is_published_unchanged_leaves_everything_usable(home: Home) -> None:
    step = step_of(home, home.settings(), "again")
    before = policy_of(step.warehouse, "002")
    after = resolve_policy(step, "002")
    assert after.generation == before.generation + 1 and after.identity == before.identity
    for work in (label_rewards, harvest_rows, *REST_OF_001):
        work(step, "002")
    assert audited(home).sound


def test_rows_are_not_harvested_from_trees_that_others_were_labelled(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = home.settings()
    fewer = settings.search.model_copy(update={"goals": settings.search.goals - 2})
    step = step_of(home, settings.model_copy(update={"search": fewer}), "fewer")
    roll_out(step, "002")
    with pytest.raises(UserError, match=r"from other trees.*materialize reward_labels of iteration 002"):
        harvest_rows(step, "002")
    with monkeypatch.context() as patched:
        unchecked(patched)
        harvest_rows(step, "002")
        train_adapter(step, "002")
    assert "Its labels are of the trees of rollouts/002 generation 1" in said(audited(home))
    label_rewards(step, "002")
    harvest_rows(step, "002")
    train_adapter(step, "002")


def test_rows_are_not_harvested_from_trees_whose_labels_disagree(home: Home) -> None:
    step = step_of(home, home.settings(), "again")
    alter(home, "UPDATE trees SET reward = 0.25 WHERE reward = 1")
    label_rewards(step, "002")
    with pytest.raises(UserError, match=r"labels of \d+ trees of iteration 002.*see josh audit"):
        harvest_rows(step, "002")


def twice(iteration: str) -> str:
    return (
        "INSERT INTO preference_rows SELECT * REPLACE (position + 1000 AS position) FROM preference_rows "
        f"WHERE iteration = '{iteration}' ORDER BY position LIMIT 1"
    )


def held_out(iteration: str) -> str:
    return (
        "UPDATE goals SET role = 'test' WHERE goal_id = (SELECT min(goal_id) FROM preference_rows "
        f"WHERE iteration = '{iteration}')"
    )


def unreadable(iteration: str) -> str:
    broken = """replace(sides::VARCHAR, '\\"name\\":', '\\"nome\\":')"""
    return f"UPDATE preference_rows SET sides = {broken} WHERE iteration = '{iteration}'"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(twice, "occur more than once"), (held_out, "held out"), (unreadable, "teach what the agent cannot read")],
)
def test_nothing_is_trained_on_unsound_or_leaking_rows_of_an_earlier_run(
    spoil: Callable[[str], str], words: str, home: Home
) -> None:
    alter(home, spoil("002"))
    with pytest.raises(UserError, match=f"{words}.*preference_pairs of iteration 002 again\\.$"):
        train_adapter(step_of(home, home.settings(), "again"), "002")
    assert one(home, "SELECT max(generation) FROM trainings WHERE iteration = '002'") == "1"


@pytest.mark.parametrize("spoil", [held_out, unreadable])
def test_replayed_rows_are_checked_too(spoil: Callable[[str], str], home: Home) -> None:
    step = with_replay(home)
    alter(home, spoil("001"))
    with pytest.raises(UserError, match=r"iteration 001 again, or set harvest\.replay to 0\.$"):
        train_adapter(step, "002")
    train_adapter(step_of(home, home.settings(), "alone"), "002")


def test_rows_of_an_iteration_that_is_on_another_line_now_are_not_replayed(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = home.settings()
    agent = settings.policy.model_copy(update={"results": "full"})
    elsewhere = step_of(home, settings.model_copy(update={"policy": agent}), "elsewhere")
    assert settings.policy.results != "full"
    iteration_on_another_line(elsewhere)
    step = with_replay(home)
    with pytest.raises(UserError, match=r"Iteration 001.*policy of iteration 002 again, or set harvest\.replay to 0"):
        train_adapter(step, "002")
    unchecked(monkeypatch)
    monkeypatch.setattr(preferences, "policy_of", as_if_of(policy_of(step.warehouse, "002").line))
    train_adapter(step, "002")
    assert "it was trained on preferences/001 generation 2 again, which is of line" in said(audited(home))


def iteration_on_another_line(step: Step) -> None:
    """Make 000 and 001 again with settings of another line."""
    for stage in BASELINE_LOOP:
        stage.run(step, "000")
    for stage in LOOP[: LOOP.index(preferences.STAGE) + 1]:
        stage.run(step, "001")


def as_if_of(line: str) -> Callable[..., PolicyRow]:
    """Read policies as a release did that looked at no line."""
    return lambda warehouse, iteration: replace(policy_of(warehouse, iteration), line=line)


def test_rows_that_another_policy_harvested_are_not_replayed(home: Home) -> None:
    resolved = resolve_policy(step_of(home, home.settings(), "again"), "001")
    alter(home, f"UPDATE policies SET attempt = 2 WHERE iteration = '001' AND generation = {resolved.generation}")
    with pytest.raises(UserError, match=r"preference_pairs of iteration 001 was made with another policy"):
        train_adapter(with_replay(home), "002")


def test_rows_are_held_to_the_settings_that_they_are_trained_with(home: Home) -> None:
    settings = home.settings()
    shorter = settings.training.model_copy(update={"max_tokens": 64})
    for training, words in ((shorter, "exceed 64 tokens"), (KtoSettings(), "not for training.method kto")):
        step = step_of(home, settings.model_copy(update={"training": training}), "other")
        with pytest.raises(UserError, match=words):
            train_adapter(step, "002")


def test_what_is_published_while_a_step_reads_is_not_mixed_in(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    step = step_of(home, home.settings(), "reading")
    old = training_rows(step, policy_of(step.warehouse, "002"))
    first = stored_trees(step.warehouse, "002")
    found = preferences.made_with

    def overtaken(step: Step, row: PolicyRow, stage: str) -> Generation:
        generation = found(step, row, stage)
        step.warehouse.publish(stage, row.iteration, "overtaking", {}, [row.source])
        return generation

    monkeypatch.setattr(preferences, "made_with", overtaken)
    assert training_rows(step, policy_of(step.warehouse, "002")) == old
    monkeypatch.setattr(preferences, "made_with", found)
    assert not training_rows(step, policy_of(step.warehouse, "002"))[0]
    step.warehouse.publish("rollouts", "002", "overtaking", {}, [])
    assert not stored_trees(step.warehouse, "002")
    assert trees_of(step.warehouse, Generation("rollouts", "002", 1)) == first


@pytest.mark.parametrize("stage", LOOP, ids=lambda stage: stage.name)
def test_a_second_run_of_an_iteration_is_told_that_the_first_one_works(stage: Stage, home: Home) -> None:
    step = step_of(home, home.settings(), "second")
    (home.root / "locks").mkdir(exist_ok=True)
    taken = alone(home.root / "locks" / "iteration-002.lock", "taken")
    with taken, pytest.raises(UserError, match="Another run works on iteration 002"):
        stage.run(step, "002")
