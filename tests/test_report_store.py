"""The report out of a store: a home with a base and two rounds."""

import json
from pathlib import Path

import pytest
from written_home import GOALS, copied_step, written_home

from josh_pipeline.cli.show import print_scores, score_record
from josh_pipeline.core.errors import UserError
from josh_pipeline.report.data import ReportData
from josh_pipeline.report.html import report_page, write_report
from josh_pipeline.report.lines import line_of_iteration
from josh_pipeline.report.load import load_report
from josh_pipeline.report.load_scores import home_scores
from josh_pipeline.report.tree import load_drawn_tree
from josh_pipeline.stages.registry import LAYOUT
from josh_pipeline.stages.stage import Step
from josh_pipeline.store.warehouse import Warehouse


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return written_home(tmp_path_factory.mktemp("home"))


@pytest.fixture
def step(warehouse: Warehouse, tmp_path: Path) -> Step:
    return copied_step(warehouse, tmp_path)


@pytest.fixture(scope="module")
def data(warehouse: Warehouse) -> ReportData:
    return load_report(warehouse)


def test_scores_name_each_policy_once_with_what_it_was_trained_on(warehouse: Warehouse) -> None:
    scores = home_scores(warehouse)
    found = [(s.iteration, s.name, s.goals.short, s.role, s.score.n, s.score.success, s.promoted) for s in scores]
    assert found == [
        (0, "cold start", "parts", "test", GOALS, 2 / 8, None),
        (1, "JOSH round 1", "parts", "test", GOALS, 6 / 8, True),
        (2, "JOSH round 2", "parts", "test", GOALS, 4 / 8, False),
    ]
    assert [(s.trees, s.full_trees) for s in scores] == [(None, None), (2, 1), (2, 1)]
    record = score_record(scores[1])
    assert list(record)[:10] == [
        "iteration", "policy", "corpus", "goals", "n", "reward", "success", "low", "high", "promoted",
    ]  # fmt: skip
    assert json.loads(json.dumps(record))["policy"] == "one"


def test_the_report_tells_of_a_line_up_to_the_iteration_asked_for(warehouse: Warehouse) -> None:
    assert list(line_of_iteration(warehouse).candidates) == ["000", "001", "002"]
    assert list(line_of_iteration(warehouse, "001").candidates) == ["000", "001"]
    with pytest.raises(UserError, match="Iteration 007 has not been evaluated in this home: take one of 000, 001, 002"):
        line_of_iteration(warehouse, "007")


def test_rounds_are_compared_with_what_came_before_and_the_last_with_the_base(data: ReportData) -> None:
    changes = [(c.before, c.after, c.metric, c.won, c.lost) for c in data.changes]
    assert changes == [
        ("cold start", "JOSH round 1", "success", 4, 0),
        ("JOSH round 1", "JOSH round 2", "success", 0, 2),
        ("cold start", "JOSH round 2", "success", 3, 1),
        ("cold start", "JOSH round 2", "reward", 3, 1),
    ]
    assert data.changes[2].difference == pytest.approx(2 / 8)
    assert [c.both + c.neither + c.won + c.lost for c in data.changes] == [GOALS] * 4


def test_harvest_curves_costs_and_injected_faults_come_from_the_rows(data: ReportData) -> None:
    first = data.harvests[0]
    assert (first.trees, first.full, first.partial, first.none, first.failed) == (2, 1, 0, 0, 1)
    assert first.rows["KTO undesirable"] == 1
    assert sum(good for good, _ in first.by_round.values()) == first.rows["KTO desirable"]
    assert sum(bad for _, bad in first.by_round.values()) == 1
    assert [(c.name, c.method, len(c.points)) for c in data.curves] == [
        ("cold start", "sft", 3),
        ("JOSH round 1", "kto", 2),
        ("JOSH round 2", "kto", 2),
    ]
    assert data.injected is not None
    assert (data.injected.conversations, data.injected.full_reward) == (4, 0.5)
    assert data.injected.careless.claimed == 0.5
    steps = [(c.iteration, c.step) for c in data.costs]
    assert steps[:3] == [(0, "cold start"), (0, "evaluation"), (1, "rollouts")]
    assert all(c.seconds is not None and c.seconds >= 0 for c in data.costs)
    assert data.costs[2].usage.prompt_tokens == 2 * 41_250
    evaluations = [c.usage for c in data.costs if c.step == "evaluation"]
    assert [(used.requests, used.prompt_tokens) for used in evaluations] == [(3 * GOALS, 1_200 * GOALS)] * 3, (
        "what a round compares with was counted where it was played"
    )
    assert evaluations[0].cost == pytest.approx(0.02 * GOALS)
    assert data.ceiling is not None
    assert data.ceiling.n == GOALS
    assert data.ceiling.share > 0.5


def test_drifts_and_decisions_of_the_gate_are_told_of_every_policy(data: ReportData) -> None:
    assert [(d.name, d.drift and round(d.drift.mean, 3), d.reason) for d in data.drifts] == [
        ("cold start", 0.5, None),
        ("JOSH round 1", 0.6, None),
        ("JOSH round 2", None, "The weights are elsewhere."),
    ]
    assert [(d.name, d.promoted, d.reason) for d in data.decisions] == [
        ("JOSH round 1", True, "Said of one."),
        ("JOSH round 2", False, "Said of two."),
    ]


def test_examples_are_goals_that_changed_hands_the_last_round_first(data: ReportData) -> None:
    examples = data.examples
    assert [(e.iteration, e.kind, e.before.policy, e.after.policy) for e in examples] == [
        (2, "lost", "JOSH round 1", "JOSH round 2"),
        (1, "won", "cold start", "JOSH round 1"),
    ]
    assert (examples[0].before.reward, examples[0].after.reward) == (1.0, 0.0)
    assert any("I am policy two." in m.content for m in examples[0].after.messages)


def test_a_stored_tree_is_drawn_with_the_rows_of_its_nodes(warehouse: Warehouse) -> None:
    drawn = load_drawn_tree(warehouse, "tree-002")
    assert (drawn.policy, drawn.iteration) == ("JOSH round 1", 2)
    assert drawn.taken.undesirable == 1
    assert drawn.taken.desirable == sum(node.golden for node in drawn.tree.nodes) - 1
    with pytest.raises(UserError, match="2 rollouts begin"):
        load_drawn_tree(warehouse, "tree-")


def test_the_report_is_one_file_that_holds_its_tree(warehouse: Warehouse, tmp_path: Path) -> None:
    report = write_report(warehouse, tmp_path / "reports")
    assert report.name == "report.html"
    text = report.read_text()
    assert 'aria-label="Search tree tree-002"' in text
    assert list((tmp_path / "reports").rglob("*")) == [report], "one file holds it all"
    assert "not promoted" in text
    assert "sample-60" in text
    assert write_report(warehouse, tmp_path, "000").name == "report-000.html"
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        write_report(warehouse, tmp_path / "file")


def test_settings_of_another_release_leave_a_report_without_what_stands_in_them(
    step: Step, capsys: pytest.CaptureFixture[str]
) -> None:
    with step.warehouse.connection() as connection:
        connection.execute("""UPDATE runs SET settings = '{"profile": "old", "gone": {"x": 1}}'""")
    data = load_report(step.warehouse)
    assert (data.ceiling, data.injected) == (None, None)
    assert data.unread is not None and "another release" in data.unread and "gone" in data.unread
    assert "Something is missing." in report_page(data)
    print_scores(step.home)
    out = " ".join(capsys.readouterr().out.split())
    assert "JOSH round 2" in out and "The user ceiling is not known. The settings of run run-1" in out


def test_a_tree_whose_goal_is_gone_is_one_sentence(step: Step) -> None:
    with step.warehouse.connection() as connection:
        connection.execute("DELETE FROM goals")
    with pytest.raises(UserError, match="Tree tree-002 cannot be drawn, because its goal"):
        load_drawn_tree(step.warehouse, "tree-002")


def test_an_empty_home_has_no_scores_and_no_report(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "josh.duckdb", LAYOUT)
    assert home_scores(warehouse) == []
    with pytest.raises(UserError, match="run josh iterate first"):
        write_report(warehouse, tmp_path)
