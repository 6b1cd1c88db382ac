"""The report of a home in which an iteration was tried again, or that holds more than one line."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console
from written_home import (
    copied_step,
    made_from,
    write_evaluation,
    write_policy,
    write_promotion,
    write_round,
    written_home,
)

from josh_pipeline.cli.show import score_table
from josh_pipeline.report.html import report_page
from josh_pipeline.report.load import load_report
from josh_pipeline.report.load_scores import home_scores
from josh_pipeline.stages.stage import Step
from josh_pipeline.store.warehouse import Warehouse


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    return written_home(tmp_path_factory.mktemp("home"))


@pytest.fixture
def step(warehouse: Warehouse, tmp_path: Path) -> Step:
    return copied_step(warehouse, tmp_path)


def test_a_refused_attempt_stays_in_scores_and_decisions_when_the_next_one_is_evaluated(step: Step) -> None:
    warehouse = step.warehouse
    write_policy(step, "002", "one", "001", attempt=2)
    write_round(step, "002", "one", "three")
    warehouse.publish("preferences", "002", step.run_id, {})
    assert [(s.score.policy, s.attempt, s.rows, s.promoted) for s in home_scores(warehouse)] == [
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
    assert [s.score.policy for s in data.main] == ["base", "one", "three"], "figures show what stands"
    of_two = [(c.round, c.step, c.usage.requests) for c in data.costs if c.iteration == 2]
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
    training = warehouse.rows("SELECT * EXCLUDE (iteration, generation, digest) FROM current_trainings ORDER BY ALL")[
        -1
    ]
    again = training | {"policy_digest": "three", "adapter_digest": "a-three"}
    tables = {"trainings": [again]}
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


def test_all_tries_of_a_tree_and_a_conversation_count_to_what_it_cost(step: Step) -> None:
    warehouse = step.warehouse

    def prompts(name: str) -> list[int]:
        return [c.usage.prompt_tokens for c in load_report(warehouse).costs if (c.iteration, c.step) == (2, name)]

    (searched,), (played,) = prompts("rollouts"), prompts("evaluation")
    with warehouse.connection() as connection:
        for table, key, listed in (
            ("trees", "rollout_id", "rollout_id = 'tree-002'"),
            ("episodes", "episode_id", "starts_with(episode_id, 'two-')"),
        ):
            connection.execute(
                f"INSERT INTO {table} SELECT * REPLACE ('cut-' || {key} AS {key}, 'budget' AS failure, "
                f"1000 AS prompt_tokens) FROM {table} WHERE {listed} ORDER BY {key} LIMIT 1"
            )
    assert (prompts("rollouts"), prompts("evaluation")) == ([searched + 1000], [played + 1000])
