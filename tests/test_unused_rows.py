"""After a rerun of the harvest alone: all that is told of an adapter is of the rows that it saw, and says so."""

from dataclasses import replace
from pathlib import Path

import pytest
from finished_home import copied, run_stages, step_of
from tampering import audited, one
from tiny_loop import play_with

from josh_pipeline.audit.chain import audit_row
from josh_pipeline.audit.text import standing
from josh_pipeline.cli.show import print_scores
from josh_pipeline.core.errors import UserError
from josh_pipeline.report.html import report_page
from josh_pipeline.report.load import load_report
from josh_pipeline.report.tree import load_drawn_tree
from josh_pipeline.report.viewer import load_row_page, tree_page
from josh_pipeline.settings import Settings
from josh_pipeline.settings.training import KtoSettings
from josh_pipeline.stages.adapter import train_adapter
from josh_pipeline.stages.policy import resolve_policy
from josh_pipeline.stages.unused import unused
from josh_pipeline.store.home import Home
from josh_pipeline.store.lineage import history

SENTENCE = (
    "Iteration 001's rows were harvested again (method kto) after its adapter was trained; the adapter saw "
    "generation 1's rows: rerun lora_adapter to use them."
)
FACT = "unused when this was written"


@pytest.fixture
def home(finished: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    play_with(monkeypatch, lambda digest: 0.8)
    return copied(finished, tmp_path)


def kto(home: Home) -> Settings:
    """Settings that train with another method than the home did."""
    training = KtoSettings(epochs=1, max_tokens=8192, processes=0, lora=home.settings().training.lora)
    return home.settings().model_copy(update={"training": training})


@pytest.fixture
def harvested_again(home: Home) -> Home:
    (made,) = run_stages(home, kto(home), "kto", "001", "preferences")
    assert made.facts[FACT] == SENTENCE
    return home


def test_a_finished_home_has_nothing_unused(finished: Home) -> None:
    assert [unused(finished.warehouse(), key) for key in ("000", "001", "002")] == [(), (), ()]
    assert load_report(finished.warehouse()).unused == ()


def test_the_report_tells_of_the_rows_that_the_adapter_saw_and_that_newer_ones_lie_unused(
    harvested_again: Home, finished: Home
) -> None:
    before, after = (load_report(home.warehouse()) for home in (finished, harvested_again))
    assert after.harvests == before.harvests and after.curves == before.curves and after.costs == before.costs
    assert [one.rows for one in after.scores] == [one.rows for one in before.scores]
    trained = next(one.rows for one in after.scores if one.name == "JOSH round 1")
    assert sum(after.harvests[0].rows.values()) == trained
    assert after.unused == (SENTENCE,)
    text = report_page(after)
    assert text.count("lies unused") == 1 and "harvested again (method kto)" in text
    assert "lies unused" not in report_page(before)


def test_scores_say_in_one_line_that_newer_rows_lie_unused(
    harvested_again: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    print_scores(harvested_again)
    assert SENTENCE in capsys.readouterr().out.splitlines()


def test_a_tree_is_marked_with_the_rows_that_the_adapter_saw(harvested_again: Home) -> None:
    store = harvested_again.warehouse()
    seen = store.rows("SELECT * FROM preference_rows WHERE iteration = '001' AND generation = 1")
    for row in seen:
        drawn = load_drawn_tree(store, row["rollout_id"])
        assert row["row_id"] in drawn.taken.row_ids and drawn.taken.golden and not drawn.taken.undesirable
        assert drawn.unused == (SENTENCE,)
    text = tree_page(drawn)
    assert "generation 1&#39;s rows: rerun lora_adapter" in text


def test_a_row_that_no_adapter_saw_says_so_and_its_tree_is_marked_with_its_own_harvest(harvested_again: Home) -> None:
    store = harvested_again.warehouse()
    pages = {}
    for generation in (1, 2):
        name = one(
            harvested_again,
            f"SELECT row_id FROM preference_rows WHERE iteration = '001' AND generation = {generation} "
            "ORDER BY label DESC, position",
        )
        found = audit_row(harvested_again, name)
        assert found.harvested.number == generation
        pages[generation] = load_row_page(store, found)
        drawn = load_drawn_tree(store, found.record["rollout_id"], found.harvested)
        assert name in drawn.taken.row_ids
    assert "no adapter saw this row" in pages[2] and "no adapter saw this row" not in pages[1]


def test_what_descends_from_a_replaced_harvest_is_superseded_and_no_fault(harvested_again: Home) -> None:
    audit, known = audited(harvested_again), history(harvested_again.warehouse())
    status = {written.name: standing(audit, written, set()) for written in known.values()}
    assert audit.sound
    descends = ["preferences/001/1", "adapter/001/1", "evaluation/001/1", "promotion/001/1"]
    descends += [f"{stage}/002/{2 if stage == 'policy' else 1}" for stage in ("policy", "rollouts", "promotion")]
    assert {status[name] for name in descends} == {"superseded"}
    unharmed = ["preferences/001/2", "rollouts/001/1", "labels/001/1", "evaluation/000/1"]
    assert {status[name] for name in unharmed} == {"sound"}
    row = one(harvested_again, "SELECT row_id FROM preference_rows WHERE iteration = '001' AND generation = 1")
    said = {link.kind: {finding.status for finding in link.findings} for link in audit_row(harvested_again, row).links}
    assert said["row"] == said["adapter"] == said["evaluation"] == said["promotion"] == {"superseded"}
    assert said["tree"] == said["goal"] == set()


def test_training_with_the_old_method_names_both_ways_out(harvested_again: Home) -> None:
    with pytest.raises(
        UserError,
        match=r"not for training\.method sft\): materialize preference_pairs of iteration 001 again with this method, "
        r"or train with that of the rows: set training\.method to kto\.$",
    ):
        train_adapter(step_of(harvested_again, harvested_again.settings(), "sft"), "001")


def test_used_rows_are_told_of_when_the_new_adapter_is_evaluated(harvested_again: Home) -> None:
    settings, store = kto(harvested_again), harvested_again.warehouse()
    (trained,) = run_stages(harvested_again, settings, "trained", "001", "adapter")
    (sentence,) = unused(store, "001")
    assert (
        sentence
        == trained.facts[FACT]
        == (
            "Iteration 001's adapter was trained again after its evaluation, which measured that of generation 1: "
            "rerun benchmark_evaluation to use it."
        )
    )
    data = load_report(store)
    assert list(data.harvests[0].rows) == ["SFT golden conversations"] and data.unused == (sentence,)
    run_stages(harvested_again, settings, "evaluated", "001", "evaluation", "promotion")
    data = load_report(store)
    assert data.unused == () and all(kind.startswith("KTO") for kind in data.harvests[0].rows)
    of_first = [(cost.round, cost.step) for cost in data.costs if cost.iteration == 1]
    assert ("other runs", "training") in of_first, "what was paid for the first adapter is told too"
    assert len(of_first) == len(set(of_first))


def test_trees_that_no_row_came_from_yet_are_told_of_too(home: Home) -> None:
    before, settings = load_report(home.warehouse()), home.settings()
    fewer = settings.model_copy(update={"search": settings.search.model_copy(update={"goals": 6})})
    run_stages(home, fewer, "fewer", "001", "rollouts")
    after = load_report(home.warehouse())
    assert after.harvests == before.harvests and after.tree == before.tree
    assert after.unused == (
        "Iteration 001's goals were searched again after its rows were harvested; the rows are from generation 1's "
        "trees: rerun reward_labels and preference_pairs to use the new ones.",
    )


def test_a_rerun_that_harvests_the_same_rows_leaves_nothing_unused(home: Home) -> None:
    (made,) = run_stages(home, home.settings(), "same", "001", "preferences")
    assert made.generation.number == 2 and FACT not in made.facts
    assert load_report(home.warehouse()).unused == ()


def test_the_rows_of_another_attempt_under_way_are_not_called_unused(home: Home) -> None:
    with home.warehouse().connection() as connection:
        connection.execute("UPDATE promotions SET promoted = false WHERE iteration = '002'")
    before = load_report(home.warehouse()).harvests
    assert resolve_policy(step_of(home, home.settings(), "attempt"), "002").attempt == 2
    run_stages(home, home.settings(), "attempt", "002", "rollouts", "labels", "preferences")
    data = load_report(home.warehouse())
    assert data.unused == () and data.harvests == before
    assert [cost.step for cost in data.costs if cost.round == "other runs"] == ["rollouts"]


def test_the_report_says_for_each_round_how_many_rows_want_what_is_evaluated(finished: Home) -> None:
    data = load_report(finished.warehouse())
    checks = [
        row["rows"]
        for row in finished.warehouse().rows(
            "SELECT count(*) AS rows FROM standing_preference_rows GROUP BY iteration ORDER BY iteration"
        )
    ]
    assert [
        harvest.alike is not None and f"of {n} row" in harvest.alike
        for harvest, n in zip(data.harvests, checks, strict=True)
    ] == [True, True]
    text = report_page(data)
    assert all(harvest.alike in text for harvest in data.harvests)
    none = replace(data, harvests=tuple(replace(one, alike=None) for one in data.harvests))
    assert "solved by heart" in text and "solved by heart" not in report_page(none)
