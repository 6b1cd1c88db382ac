"""``josh evaluate`` on a finished home: which policy it plays, what it plays again, and the user ceiling."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from finished_home import copied, finished_home, step_of
from matplotlib.figure import Figure
from tiny_loop import play_with

from assets.pages import evaluation_pages
from josh_pipeline.cli.main import main
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.user import User
from josh_pipeline.dialogue.demonstrations import Ceiling
from josh_pipeline.dialogue.users import make_user
from josh_pipeline.report.data import PolicyScore
from josh_pipeline.report.figures import success_by_iteration
from josh_pipeline.stages.benchmark import benchmark, chosen_policy
from josh_pipeline.stages.stage import Step
from josh_pipeline.store.home import Home


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return finished_home(tmp_path_factory.mktemp("finished"), rounds=1)


@pytest.fixture
def step(finished: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Step:
    play_with(monkeypatch, lambda digest: 0.8)
    home = copied(finished, tmp_path)
    return step_of(home, home.settings(), "test")


def test_only_the_trials_that_are_missing_are_played(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    first = benchmark(step, "1", "test", "part", 2, 6)
    lost = [
        row["episode_id"]
        for row in step.warehouse.rows(
            "SELECT episode_id FROM episodes WHERE policy_digest = ? AND trial = 1 ORDER BY ALL LIMIT 2",
            [first.score.policy],
        )
    ]
    with step.warehouse.connection() as connection:
        connection.execute("DELETE FROM episodes WHERE list_contains(?, episode_id)", [lost])
    before = step.warehouse.rows("SELECT * FROM episodes ORDER BY episode_id")
    written: list[str] = []
    append = step.warehouse.append

    def counting(tables, key):  # type: ignore[no-untyped-def]
        written.extend(row["episode_id"] for row in tables["episodes"])
        append(tables, key)

    monkeypatch.setattr(step.warehouse, "append", counting)
    again = benchmark(step, "1", "test", "part", 2, 6)
    assert sorted(written) == lost, "a goal's other trial was paid for already"
    kept_ids = step.warehouse.query("SELECT episode_id FROM episodes")["episode_id"]
    assert set(lost) <= set(kept_ids)
    kept = step.warehouse.rows(
        "SELECT * FROM episodes WHERE NOT list_contains(?, episode_id) ORDER BY episode_id", [lost]
    )
    assert kept == before
    assert (again.score.n, again.score.trials, again.score.reward) == (6, 2, first.score.reward)


def test_a_user_that_cannot_be_made_fails_its_conversation_and_no_other(
    step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def making(*arguments: Any) -> User:
        made.append("")
        if len(made) == 1:
            raise ValueError("no script")
        return make_user(*arguments)

    monkeypatch.setattr("josh_pipeline.evaluation.playing.make_user", making)
    search = step.settings.search.model_copy(update={"max_failed_share": 0.5})
    patient = replace(step, settings=step.settings.model_copy(update={"search": search}))
    found = benchmark(patient, "1", "train", "part", 1, 4)
    assert (found.score.n, dict(found.score.failures)) == (4, {"user": 1})


def test_a_base_that_two_lines_share_is_one_policy(step: Step) -> None:
    base = step.warehouse.rows("SELECT * FROM current_policies WHERE iteration = '000'")[0]
    with step.warehouse.connection() as connection:
        connection.execute(
            "INSERT INTO policies SELECT * REPLACE ('003' AS iteration, 'other' AS line) FROM policies "
            "WHERE iteration = '000'"
        )
        connection.execute(
            "INSERT INTO generations SELECT * REPLACE ('003' AS scope) FROM generations "
            "WHERE stage = 'policy' AND scope = '000'"
        )
    shared = step.warehouse.rows("SELECT * FROM current_policies WHERE predecessor IS NULL")
    assert len(shared) == 2
    found = chosen_policy(step, base["policy_digest"])
    assert (found.policy_digest, found.adapter_path) == (base["policy_digest"], None)
    assert chosen_policy(step, base["policy_digest"][:10]).iteration == "000"
    with pytest.raises(UserError, match="policies begin with ''"):
        chosen_policy(step, "")


def test_an_endpoint_in_the_settings_is_not_evaluated_under_the_name_of_another_policy(step: Step) -> None:
    policy = step.settings.policy.model_copy(update={"endpoint": "http://127.0.0.1:9/v1"})
    elsewhere = replace(step, settings=step.settings.model_copy(update={"policy": policy}))
    with pytest.raises(UserError, match=r"model at http://127\.0\.0\.1:9/v1, not with policy '1'"):
        chosen_policy(elsewhere, "1")


def test_the_user_ceiling_of_the_played_goals_stands_beside_the_score(
    step: Step, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOSH_HOME", str(step.home.root))
    assert main(["evaluate", "--number", "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["user_ceiling"] == 1.0
    assert main(["evaluate", "--number", "5"]) == 0
    assert "a perfect agent reaches │ 100.0 %" in " ".join(capsys.readouterr().out.split())
    script = step.settings.user.model_copy(update={"kind": "script"})
    other = replace(step, settings=step.settings.model_copy(update={"user": script}))
    assert benchmark(other, "1", "test", "part", 1, 2).ceiling is None


def test_scores_say_how_many_goals_a_benchmark_played_and_leave_validation_out(
    step: Step, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOSH_HOME", str(step.home.root))
    benchmark(step, "1", "test", "part", 1, 5)
    benchmark(step, "1", "test", "part", 1, None)
    benchmark(step, "1", "val", "part", 1, None)
    assert main(["scores", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["iteration"], one["role"], one["n"]) for one in found] == [
        (0, "test", 12),
        (1, "test", 12),
        (1, "test (first 5)", 5),
        (1, "test (all)", 12),
    ]


def test_the_figure_in_the_ui_shows_the_user_ceiling(step: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Ceiling | None] = []

    def drawing(scores: Sequence[PolicyScore], ceiling: Ceiling | None) -> Figure:
        seen.append(ceiling)
        return success_by_iteration(scores, ceiling)

    monkeypatch.setattr("assets.pages.success_by_iteration", drawing)
    assert "success by iteration" in evaluation_pages(step, "001")
    assert seen == [Ceiling(12, 12, ())]
