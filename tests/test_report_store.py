"""The report out of a store: a home with a base and two rounds, written as the steps write it."""

import io
import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from report_samples import conversation, grown_tree
from rich.console import Console

from josh_pipeline.commands.scores import print_scores
from josh_pipeline.errors import UserError
from josh_pipeline.evaluation.episode import Episode
from josh_pipeline.evaluation.statistics import paired_bootstrap
from josh_pipeline.evaluation.summary import score
from josh_pipeline.home import open_home
from josh_pipeline.progress import SilentProgress
from josh_pipeline.report.data import ReportData
from josh_pipeline.report.html import report_page
from josh_pipeline.report.lines import line_of_iteration
from josh_pipeline.report.load import load_report
from josh_pipeline.report.load_scores import home_scores
from josh_pipeline.report.load_tree import load_drawn_tree
from josh_pipeline.report.scores import score_record, score_table
from josh_pipeline.report.write import write_report
from josh_pipeline.search.codec import node_records, tree_record
from josh_pipeline.search.tree import Usage
from josh_pipeline.settings import load_settings
from josh_pipeline.stages.corpus import store_corpus
from josh_pipeline.stages.drift import drift_frame
from josh_pipeline.stages.episodes import EPISODE_SCHEMA, episode_record
from josh_pipeline.stages.evaluation import score_record as stored_score
from josh_pipeline.stages.goals import store_goals, stored_goals
from josh_pipeline.stages.rollouts import NODE_SCHEMA, TREE_SCHEMA
from josh_pipeline.stages.scopes import base_scope, corpus_scope, goals_scope
from josh_pipeline.stages.step import Step, start_step
from josh_pipeline.store.warehouse import Generation, Warehouse
from josh_pipeline.toolwoz.goal import Goal

SUCCESSES = {"base": 2, "one": 6, "two": 5, "three": 7}
GOALS = 8
STRINGS = dict.fromkeys(("predecessor", "adapter_digest", "adapter_path", "previous_digest"), pl.String)


def episodes(goals: Sequence[Goal], policy: str) -> list[Episode]:
    """The first goals are solved; round two loses goal 0, which the others solve."""
    solved = set(range(SUCCESSES[policy])) ^ ({0} if policy == "two" else set())
    return [
        Episode(
            episode_id=f"{policy}-{goal.goal_id}", goal_id=goal.goal_id, policy_digest=policy, seed=index,
            settings_digest="s", trial=0, messages=conversation(f"I am policy {policy}."), calls=(),
            earned=tuple(range(len(goal.calls))) if index in solved else (),
            reward=1.0 if index in solved else 0.0, turns=2, error_turns=0, user_done=True, failure=None,
            failure_message=None, usage=Usage(3, 0, 1_200, 900, 60, 0, 0, 0, 0, 0.02, 1.5),
        )
        for index, goal in enumerate(goals)
    ]  # fmt: skip


def write_base(step: Step) -> None:
    scope = base_scope(step.settings)
    base = {
        "base_digest": "base", "model": "smollm2", "foundation_digest": "f", "foundation_path": "models/f",
        "adapter_digest": "a0", "adapter_path": "adapters/a0", "base_path": "models/base",
        "demonstrations": 4, "tokens": 900, "seconds": 12.5, "record": "{}",
    }  # fmt: skip
    demonstrations = [
        {"position": i, "goal_id": "g", "dialogue_id": "d", "messages": "[]", "reward": r}
        for i, r in enumerate((1.0, 1.0, 0.5, 0.0))
    ]
    curve = [{"step": s, "point": json.dumps({"step": s, "loss": 2.0 / s})} for s in (1, 2, 3)]
    tables = {
        "base_models": pl.DataFrame([base]),
        "demonstrations": pl.DataFrame(demonstrations),
        "cold_start_curves": pl.DataFrame(curve),
    }
    step.warehouse.publish("cold_start", scope, step.run_id, tables)


def made_from(step: Step, iteration: str, *stages: str) -> list[Generation]:
    found = [step.warehouse.current(stage, iteration) for stage in stages]
    return [one for one in found if one is not None]


def write_policy(
    step: Step,
    iteration: str,
    digest: str,
    predecessor: str | None,
    attempt: int = 1,
    line: str = "line",
) -> None:
    row = {
        "policy_digest": digest, "kind": "adapter", "attempt": attempt, "line": line,
        "predecessor": predecessor,
        "corpus": "sample-40", "corpus_digest": "c", "corpus_scope": corpus_scope(step.settings.corpus),
        "goals_scope": goals_scope(step.settings), "base_scope": base_scope(step.settings),
        "base_digest": "base", "base_path": "models/base", "adapter_digest": None, "adapter_path": None,
        "model": "smollm2",
    }  # fmt: skip
    frame = pl.DataFrame([row], schema_overrides=STRINGS)
    step.warehouse.publish("policy", iteration, step.run_id, {"policies": frame})


def write_round(step: Step, iteration: str, trained_from: str, candidate: str) -> None:
    warehouse = step.warehouse
    goal = stored_goals(warehouse, goals_scope(step.settings), kind="part", role="train")[0]
    whole = replace(
        grown_tree(rounds=6, collapses=(4,), seed=int(iteration)), rollout_id=f"tree-{iteration}",
        goal_id=goal.goal_id, reward=1.0, policy_digest=trained_from,
    )  # fmt: skip
    failed = replace(
        grown_tree(rounds=0), rollout_id=f"failed-{iteration}", goal_id=goal.goal_id, failure="timeout",
        failure_message="no answer", reward=0.0, earned=(),
    )  # fmt: skip
    for tree in (whole, failed):
        marked = tree_record(tree) | {"run_id": "r", "simulated_user": "agenda v1"}
        record = pl.DataFrame([marked], schema_overrides=TREE_SCHEMA)
        nodes = pl.DataFrame(node_records(tree), schema_overrides=NODE_SCHEMA)
        warehouse.append({"trees": record, "nodes": nodes}, key="rollout_id")
    members = [{"position": i, "rollout_id": t.rollout_id} for i, t in enumerate((whole, failed))]
    inputs = made_from(step, iteration, "policy")
    warehouse.publish("rollouts", iteration, step.run_id, {"rollouts": pl.DataFrame(members)}, inputs)
    golden = [node for node in whole.nodes if node.golden and node.round]
    beside = next(node for node in whole.nodes if not node.successful)
    links = [(f"row-{i}", node.node_id, True) for i, node in enumerate(golden)]
    links.append(("row-bad", beside.node_id, False))
    rows = [
        {
            "position": i, "row_id": row, "method": "kto", "goal_id": goal.goal_id,
            "rollout_id": whole.rollout_id, "policy_digest": "p", "tools": "[]", "prompt": "[]",
            "completion": "{}", "rejected": None, "desirable": desirable,
        }
        for i, (row, _, desirable) in enumerate(links)
    ]  # fmt: skip
    nodes_ = [
        {"row_id": row, "node_id": node, "rollout_id": whole.rollout_id, "part": "completion"}
        for row, node, _ in links
    ]
    tables = {
        "preference_rows": pl.DataFrame(rows, schema_overrides={"rejected": pl.String}),
        "row_nodes": pl.DataFrame(nodes_),
    }
    inputs = made_from(step, iteration, "policy", "rollouts")
    warehouse.publish("preferences", iteration, step.run_id, tables, inputs)
    training = {
        "policy_digest": candidate, "adapter_digest": f"a-{candidate}", "adapter_path": "adapters/x",
        "base_digest": "base", "parent_digest": None, "rows_digest": "d", "method": "kto", "rows": len(rows),
        "tokens": 700, "seconds": 3.0, "manifest": "{}",
    }  # fmt: skip
    curve = [{"step": s, "point": json.dumps({"loss": 0.5 / s})} for s in (1, 2)] + [
        {"step": 3, "point": json.dumps({"train_runtime": 3.0})}
    ]
    tables = {
        "trainings": pl.DataFrame([training], schema_overrides={"parent_digest": pl.String}),
        "training_curves": pl.DataFrame(curve),
    }
    inputs = made_from(step, iteration, "policy", "preferences")
    warehouse.publish("adapter", iteration, step.run_id, tables, inputs)


def write_evaluation(step: Step, iteration: str, before: str | None, after: str) -> None:
    goals = stored_goals(step.warehouse, goals_scope(step.settings), kind="part", role="test")[:GOALS]
    by_id = {goal.goal_id: goal for goal in goals}
    sides = {"after": after} | ({"before": before} if before else {})
    played = {side: episodes(goals, policy) for side, policy in sides.items()}
    for found in played.values():
        records = [episode_record(episode) | {"run_id": "r"} for episode in found]
        frame = pl.DataFrame(records, schema_overrides=EPISODE_SCHEMA)
        step.warehouse.append({"episodes": frame}, key="episode_id")
    tables = {
        "evaluation_episodes": pl.DataFrame(
            [
                {"side": side, "role": role, "goal_kind": "part", "episode_id": episode.episode_id}
                for side, found in played.items()
                for role in ("test",)
                for episode in found
            ]
        ),
        "evaluations": pl.DataFrame(
            [
                {"side": side, "role": role, "goal_kind": "part"} | stored_score(score(found, by_id), found)
                for side, found in played.items()
                for role in ("val", "test")
            ]
        ),
    }
    if before:
        old, new = ([float(e.success) for e in played[side]] for side in ("before", "after"))
        change = paired_bootstrap(old, new, 200)
        comparison = {
            "role": "test", "goal_kind": "part", "metric": "success", "n": change.n,
            "before": sum(old) / len(old), "after": sum(new) / len(new), "difference": change.diff,
            "low": change.low, "high": change.high,
        }  # fmt: skip
        tables["comparisons"] = pl.DataFrame([comparison])
    drift = {
        "policy_digest": after, "foundation_digest": "f", "texts_digest": "t",
        "drift": 0.5 + 0.1 * int(iteration),
        "low": 0.4, "high": 0.9, "texts": 40, "tokens": 651, "by_kind": '{"chat": 0.8, "code": 0.4}',
        "seconds": 9.0, "reason": None, "max_drift": 1.5,
    }  # fmt: skip
    if after == "two":
        drift |= dict.fromkeys(("drift", "low", "high", "texts", "tokens", "by_kind", "seconds"))
        drift |= {"reason": "The weights are elsewhere."}
    tables["drifts"] = drift_frame(drift)
    inputs = made_from(step, iteration, "policy", "adapter")
    step.warehouse.publish("evaluation", iteration, step.run_id, tables, inputs)


def write_promotion(step: Step, iteration: str, candidate: str, promoted: bool, attempt: int = 1) -> None:
    row = {
        "attempt": attempt, "line": "line", "promoted": promoted, "reason": f"Said of {candidate}.",
        "policy_digest": candidate,
        "base_digest": "base", "base_path": "models/base", "adapter_digest": None, "adapter_path": None,
        "previous_digest": None,
    }  # fmt: skip
    frame = pl.DataFrame([row], schema_overrides=STRINGS)
    inputs = made_from(step, iteration, "policy", "evaluation", "adapter")
    step.warehouse.publish("promotion", iteration, step.run_id, {"promotions": frame}, inputs)


def open_step(folder: Path) -> Step:
    settings = load_settings(
        "quickstart",
        {
            "corpus": {"sample_dialogues": 60},
            "goals": {"domains": ["hotel", "restaurant", "attraction", "train"]},
            "evaluation": {"bootstrap": 200},
        },
    )
    return start_step(open_home(folder), settings, "run-1", SilentProgress())


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    step = open_step(tmp_path_factory.mktemp("home"))
    store_corpus(step)
    store_goals(step)
    write_base(step)
    write_policy(step, "000", "base", None)
    write_evaluation(step, "000", None, "base")
    write_promotion(step, "000", "base", True)
    for iteration, before, after, promoted in (("001", "base", "one", True), ("002", "one", "two", False)):
        write_policy(step, iteration, before, f"{int(iteration) - 1:03d}")
        write_round(step, iteration, before, after)
        write_evaluation(step, iteration, before, after)
        write_promotion(step, iteration, after, promoted)
    return step.warehouse


@pytest.fixture
def step(warehouse: Warehouse, tmp_path: Path) -> Step:
    """A copy of the home, that a test may change."""
    shutil.copy(warehouse.path, tmp_path / warehouse.path.name)
    return open_step(tmp_path)


@pytest.fixture(scope="module")
def data(warehouse: Warehouse) -> ReportData:
    return load_report(warehouse)


def test_scores_name_each_policy_once_with_what_it_was_trained_on(warehouse: Warehouse) -> None:
    scores = home_scores(warehouse)
    found = [(s.iteration, s.name, s.goals, s.role, s.n, s.success, s.promoted) for s in scores]
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
    assert line_of_iteration(warehouse).iterations == ("000", "001", "002")
    assert line_of_iteration(warehouse, "001").iterations == ("000", "001")
    with pytest.raises(UserError, match="Iteration 007 has been evaluated in this home yet"):
        line_of_iteration(warehouse, "007")


def test_rounds_are_compared_with_what_came_before_and_the_last_with_the_base(data: ReportData) -> None:
    changes = [(c.before, c.after, c.metric, c.won, c.lost) for c in data.comparisons]
    assert changes == [
        ("cold start", "JOSH round 1", "success", 4, 0),
        ("JOSH round 1", "JOSH round 2", "success", 0, 2),
        ("cold start", "JOSH round 2", "success", 3, 1),
        ("cold start", "JOSH round 2", "reward", 3, 1),
    ]
    assert data.comparisons[2].difference == pytest.approx(2 / 8)
    assert [c.both + c.neither + c.won + c.lost for c in data.comparisons] == [GOALS] * 4


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
    assert data.injected.claimed_bookings == 0.5
    steps = [(c.iteration, c.step) for c in data.costs]
    assert steps[:3] == [(0, "cold start"), (0, "evaluation"), (1, "rollouts")]
    assert all(c.seconds is not None and c.seconds >= 0 for c in data.costs)
    assert data.costs[2].prompt_tokens == 2 * 41_250
    evaluations = [c for c in data.costs if c.step == "evaluation"]
    assert [(c.requests, c.prompt_tokens) for c in evaluations] == [(3 * GOALS, 1_200 * GOALS)] * 3, (
        "what a round compares with was counted where it was played"
    )
    assert evaluations[0].money == pytest.approx(0.02 * GOALS)
    assert data.ceiling is not None
    assert data.ceiling.n == GOALS
    assert data.ceiling.success > 0.5


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


def test_report_and_tree_are_written_side_by_side(warehouse: Warehouse, tmp_path: Path) -> None:
    report = write_report(warehouse, tmp_path / "reports")
    assert report.name == "report.html"
    text = report.read_text()
    assert "trees/tree-002.html" in text
    assert (tmp_path / "reports" / "trees" / "tree-002.html").is_file()
    assert "not promoted" in text
    assert "sample-60" in text
    assert write_report(warehouse, tmp_path, "000").name == "report-000.html"
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        write_report(warehouse, tmp_path / "file")


def test_a_refused_attempt_stays_in_scores_and_decisions_when_the_next_one_is_evaluated(step: Step) -> None:
    warehouse = step.warehouse
    write_policy(step, "002", "one", "001", attempt=2)
    write_round(step, "002", "one", "three")
    warehouse.publish("preferences", "002", step.run_id, {})
    assert [(s.policy, s.attempt, s.rows, s.promoted) for s in home_scores(warehouse)] == [
        ("base", 1, None, None),
        ("one", 1, 5, True),
        ("two", 1, 5, False),
    ], "while attempt 2 runs, the score is that of attempt 1"
    write_evaluation(step, "002", "one", "three")
    write_promotion(step, "002", "three", True, attempt=2)
    assert [(s.name, s.attempt, s.superseded, s.rows, s.promoted) for s in home_scores(warehouse)] == [
        ("cold start", 1, False, None, None),
        ("JOSH round 1", 1, False, 5, True),
        ("JOSH round 2, attempt 1", 1, True, 5, False),
        ("JOSH round 2, attempt 2", 2, False, 5, True),
    ]
    data = load_report(warehouse)
    assert [(d.name, d.promoted, d.reason) for d in data.decisions] == [
        ("JOSH round 1", True, "Said of one."),
        ("JOSH round 2, attempt 1", False, "Said of two."),
        ("JOSH round 2, attempt 2", True, "Said of three."),
    ]
    assert [s.policy for s in data.main] == ["base", "one", "three"], "figures show what stands"
    of_two = [(c.round, c.step, c.requests) for c in data.costs if c.iteration == 2]
    steps = ("rollouts", "training", "evaluation")
    assert [(name, step) for name, step, _ in of_two] == [
        (f"JOSH round 2, attempt {attempt}", step) for attempt in (1, 2) for step in steps
    ]
    asked = {(name[-1], step): requests for name, step, requests in of_two}
    assert asked["1", "rollouts"] > 0 == asked["2", "rollouts"], "both attempts hold the same trees here"
    assert asked["1", "evaluation"] > 0 < asked["2", "evaluation"]
    screen = io.StringIO()
    Console(file=screen, width=80).print(score_table(home_scores(warehouse)))
    assert "…" not in screen.getvalue() and max(map(len, screen.getvalue().splitlines())) <= 80


def test_two_candidates_of_one_search_share_its_cost(step: Step) -> None:
    warehouse = step.warehouse
    training = warehouse.rows("SELECT * EXCLUDE (iteration, generation) FROM current_trainings ORDER BY ALL")[
        -1
    ]
    again = training | {"policy_digest": "three", "adapter_digest": "a-three"}
    tables = {"trainings": pl.DataFrame([again], schema_overrides={"parent_digest": pl.String})}
    warehouse.publish("adapter", "002", step.run_id, tables, made_from(step, "002", "policy", "preferences"))
    write_evaluation(step, "002", "one", "three")
    write_promotion(step, "002", "three", True)
    of_two = [c.step for c in load_report(warehouse).costs if c.iteration == 2]
    assert of_two == ["rollouts", "training", "evaluation", "training", "evaluation"]


def test_a_second_line_counts_its_own_rounds(step: Step) -> None:
    write_policy(step, "003", "base", None, line="other")
    write_evaluation(step, "003", None, "base")
    write_promotion(step, "003", "base", True)
    write_policy(step, "004", "base", "003", line="other")
    write_round(step, "004", "base", "three")
    write_evaluation(step, "004", "base", "three")
    write_promotion(step, "004", "three", True)
    data = load_report(step.warehouse)
    assert [h.name for h in data.harvests] == ["JOSH round 1"]
    assert {c.round for c in data.costs if c.iteration == 4} == {"JOSH round 1"}
    assert {c.round for c in data.costs if c.iteration == 3} == {""}
    text = report_page(data)
    assert "searched in JOSH round 1 by" in text
    assert not re.search(r"JOSH round [3-9]", text)


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
    warehouse = Warehouse(tmp_path / "josh.duckdb")
    assert home_scores(warehouse) == []
    with pytest.raises(UserError, match="run josh iterate first"):
        write_report(warehouse, tmp_path)
