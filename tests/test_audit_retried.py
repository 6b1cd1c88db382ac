"""Homes in which conversations and trees failed, and were played again: the failed ones stay, and count."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes import ScriptedPolicy, failing
from finished_home import copied, run_stages
from tampering import alter, audited, said
from tiny_loop import answering, play_with

from josh_pipeline.audit.chain import audit_row
from josh_pipeline.cli.main import main
from josh_pipeline.core.policy import Policy, Request
from josh_pipeline.search.codec import tree_record
from josh_pipeline.search.tree import Tree
from josh_pipeline.settings import Settings
from josh_pipeline.settings.training import KtoSettings
from josh_pipeline.store.gc import find_waste, remove
from josh_pipeline.store.home import Home


@pytest.fixture
def home(finished: Home, tmp_path: Path) -> Home:
    return copied(finished, tmp_path)


def candidate(home: Home, iteration: str) -> str:
    rows = home.warehouse().rows("SELECT * FROM current_trainings WHERE iteration = ?", [iteration])
    return str(rows[0]["policy_digest"])


def failing_once(monkeypatch: pytest.MonkeyPatch, digest: str) -> None:
    """Let one policy fail wherever a user opens as the first user did that it ever heard."""
    answers, victims = answering(), list[str]()

    @asynccontextmanager
    async def open_policy(settings: Any, weights: Any, name: str, in_flight: int) -> AsyncIterator[Policy]:
        def answer(request: Request) -> str:
            opening = next(message.content for message in request.messages if message.role == "user")
            if name == digest:
                victims.append(opening)
                if opening == victims[0]:
                    raise failing("endpoint")
            return answers(request, 0.8)

        yield ScriptedPolicy(answer, digest=name)

    monkeypatch.setattr("josh_pipeline.policies.open.open_policy", open_policy)


def with_longer_conversations(home: Home) -> Settings:
    """Settings under which no conversation was played yet."""
    settings = home.settings()
    evaluation = settings.evaluation.model_copy(update={"max_messages": settings.evaluation.max_messages + 2})
    return settings.model_copy(update={"evaluation": evaluation})


def episodes(home: Home) -> list[dict[str, Any]]:
    return home.warehouse().rows("SELECT * FROM episodes WHERE failure IS NOT NULL OR retry > 0 ORDER BY retry")


def test_a_failed_conversation_is_played_again_as_another_one_and_what_listed_it_stays_as_it_was(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, made = with_longer_conversations(home), candidate(home, "001")
    failing_once(monkeypatch, made)
    run_stages(home, settings, "after of 001", "001", "evaluation")
    failed = episodes(home)
    assert failed and {one["retry"] for one in failed} == {0} and audited(home).sound
    scores = home.warehouse().rows("SELECT * FROM current_evaluations WHERE iteration = '001' ORDER BY ALL")

    play_with(monkeypatch, lambda digest: 1.0)
    run_stages(home, settings, "before of 002", "002", "evaluation")
    again = [one for one in episodes(home) if one["retry"]]
    same = ("goal_id", "policy_digest", "seed", "settings_digest", "trial")
    assert [[one[name] for name in same] for one in again] == [[one[name] for name in same] for one in failed]
    assert not {one["episode_id"] for one in again} & {one["episode_id"] for one in failed}
    assert episodes(home)[: len(failed)] == failed, "a row of the store never changes"

    assert main(["audit", "--home", str(home.root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {one["status"] for one in found["generations"]} <= {"sound", "superseded"}
    stored = home.warehouse().rows("SELECT * FROM current_evaluations WHERE iteration = '001' ORDER BY ALL")
    assert stored == scores
    alter(home, f"UPDATE episodes SET seconds = 0 WHERE episode_id = '{failed[0]['episode_id']}'")
    assert f"Row {failed[0]['episode_id']} of table episodes was altered" in said(audited(home))


def test_the_score_of_an_evaluation_with_failed_conversations_is_computed_anew_for_ever(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_once(monkeypatch, candidate(home, "001"))
    settings = with_longer_conversations(home)
    run_stages(home, settings, "after of 001", "001", "evaluation")
    play_with(monkeypatch, lambda digest: 1.0)
    run_stages(home, settings, "before of 002", "002", "evaluation")
    alter(home, "UPDATE evaluations SET mean_reward = 0.999 WHERE iteration = '001' AND generation = 2")
    assert "its conversations give" in said(audited(home))


@pytest.fixture
def cut(home: Home, monkeypatch: pytest.MonkeyPatch) -> str:
    """Search, label and harvest 002 anew, one tree marked as cut by the budget after it earned; its id."""
    marked: list[str] = []

    def record(tree: Tree) -> dict[str, Any]:
        if tree.reward and not marked:
            marked.append(tree.rollout_id)
        about = {"failure": "budget", "failure_message": "The budget was spent."}
        return tree_record(tree) | (about if tree.rollout_id in marked else {})

    play_with(monkeypatch, lambda digest: 0.6)
    monkeypatch.setattr("josh_pipeline.stages.rollouts.tree_record", record)
    run_stages(home, again(home), "cut", "002", "rollouts", "labels", "preferences")
    monkeypatch.setattr("josh_pipeline.stages.rollouts.tree_record", tree_record)
    return marked[0]


def again(home: Home) -> Settings:
    return home.settings().model_copy(update={"seed": 5, "training": KtoSettings()})


def search_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Search what was cut with a policy that never earns, so that another tree comes of it."""
    play_with(monkeypatch, lambda digest: 0.0)
    run_stages(home, again(home), "retry", "002", "rollouts")


def harvested(home: Home, where: str) -> list[str]:
    rows = home.warehouse().rows(
        f"SELECT row_id FROM current_preference_rows WHERE iteration = '002' AND {where} ORDER BY position"
    )
    return [row["row_id"] for row in rows]


def tree(home: Home, where: str) -> dict[str, Any]:
    return home.warehouse().rows(f"SELECT * FROM trees WHERE {where}")[0]


def test_a_tree_that_was_cut_is_searched_again_as_another_one_and_its_labels_and_rows_still_follow(
    home: Home, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_the_cut, of_others = (harvested(home, f"rollout_id {sign} '{cut}'") for sign in ("=", "<>"))
    before = tree(home, f"rollout_id = '{cut}'")
    assert of_the_cut and of_others and audited(home).sound

    search_again(home, monkeypatch)
    retried = tree(home, "retry = 1")
    assert (retried["goal_id"], retried["seed"], retried["failure"]) == (before["goal_id"], before["seed"], None)
    assert tree(home, f"rollout_id = '{cut}'") == before
    current = home.warehouse().query("SELECT rollout_id FROM current_rollouts WHERE iteration = '002'")
    assert retried["rollout_id"] in current["rollout_id"] and cut not in current["rollout_id"]
    assert said(audited(home)) == ""

    row = audit_row(home, of_the_cut[0])
    assert row.audit.sound and row.nodes, "the nodes that it came from are there"
    assert audit_row(home, of_others[0]).audit.sound
    run_stages(home, again(home), "retry", "002", "labels", "preferences")
    assert said(audited(home)) == "" and not harvested(home, f"rollout_id = '{cut}'")


def test_what_is_altered_in_a_cut_tree_or_its_rows_is_named_after_it_was_searched_again(
    home: Home, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mine, *_), (other, *_) = (harvested(home, f"rollout_id {sign} '{cut}'") for sign in ("=", "<>"))
    search_again(home, monkeypatch)
    alter(home, f"UPDATE preference_rows SET goal_id = 'x' WHERE row_id IN ('{mine}', '{other}')")
    alter(home, f"DELETE FROM row_nodes WHERE row_id = '{other}'")
    alter(home, f"UPDATE trees SET reward = 0.25 WHERE rollout_id = '{cut}'")
    broken = said(audited(home))
    for name in (mine, other):
        assert f"Row {name} of table preference_rows of preferences/002/2 was altered" in broken
        assert f"Training row {name} has another goal_id" in broken
    assert f"The link from row {other}" in broken
    assert f"Row {cut} of table trees was altered" in broken


def test_a_tree_that_fails_again_is_owed_as_the_next_retry_and_one_that_succeeded_is_not_owed(
    home: Home, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(grown: Tree) -> dict[str, Any]:
        return tree_record(grown) | {"failure": "endpoint", "failure_message": "No answer."}

    monkeypatch.setattr("josh_pipeline.stages.rollouts.tree_record", failed)
    search_again(home, monkeypatch)
    monkeypatch.setattr("josh_pipeline.stages.rollouts.tree_record", tree_record)
    search_again(home, monkeypatch)
    search_again(home, monkeypatch)
    goal = tree(home, f"rollout_id = '{cut}'")["goal_id"]
    tries = home.warehouse().rows(
        "SELECT retry, failure FROM trees WHERE goal_id = ? AND seed = ? ORDER BY retry",
        [goal, tree(home, f"rollout_id = '{cut}'")["seed"]],
    )
    assert [(one["retry"], one["failure"]) for one in tries] == [(0, "budget"), (1, "endpoint"), (2, None)]
    assert said(audited(home)) == ""


def test_what_all_failed_tries_of_a_tree_cost_counts_to_the_budget(
    home: Home, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(grown: Tree) -> dict[str, Any]:
        return tree_record(grown) | {"failure": "endpoint", "failure_message": "No answer."}

    def tokens(table: str) -> int:
        seed = tree(home, f"rollout_id = '{cut}'")["seed"]
        found = home.warehouse().rows(
            f"SELECT sum(prompt_tokens + completion_tokens) AS n FROM {table} WHERE seed = {seed}"
        )
        return int(found[0]["n"])

    def search_within(max_tokens: int) -> None:
        budget = again(home).budget.model_copy(update={"max_tokens": max_tokens})
        settings = again(home).model_copy(update={"budget": budget})
        run_stages(home, settings, "within", "002", "rollouts")

    monkeypatch.setattr("josh_pipeline.stages.rollouts.tree_record", failed)
    search_again(home, monkeypatch)
    spent = tokens("trees")
    assert spent > tokens("current_trees") > 0, "two tries of the tree that was cut, of which one is listed"
    search_within(spent)
    assert not home.warehouse().rows("SELECT 1 FROM trees WHERE retry = 2")
    search_within(spent + 1)
    assert home.warehouse().rows("SELECT 1 FROM trees WHERE retry = 2")


def test_a_failed_try_stays_while_something_kept_lists_a_later_one_and_goes_with_it(
    home: Home, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    search_again(home, monkeypatch)
    run_stages(home, again(home), "retry", "002", "labels", "preferences")
    waste = find_waste(home)
    assert "rollouts/002/2" in {written.name for written in waste.generations}
    remove(home, waste)
    assert tree(home, f"rollout_id = '{cut}'")["failure"] == "budget", "its cost counts to the budget"
    assert said(audited(home)) == ""

    play_with(monkeypatch, lambda digest: 0.8)
    other = again(home).model_copy(update={"seed": 6})
    run_stages(home, other, "another seed", "002", "rollouts", "labels", "preferences")
    remove(home, find_waste(home))
    seeds = home.warehouse().query("SELECT rollout_id FROM trees")["rollout_id"]
    assert cut not in seeds and not home.warehouse().rows("SELECT 1 FROM trees WHERE retry > 0")
    assert said(audited(home)) == ""
