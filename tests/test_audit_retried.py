"""The audit of a home in which conversations and trees failed, and were played again: that is no fault."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes import ScriptedPolicy, failing
from finished_home import copied, step_of
from tiny_loop import answering, play_with

from josh_pipeline.audit.findings import Audit
from josh_pipeline.audit.row import audit_row
from josh_pipeline.audit.sealing import seal_what_is_unsealed
from josh_pipeline.audit.whole import audit_home
from josh_pipeline.cli.main import main
from josh_pipeline.core.policy import Policy, Request
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.search.codec import tree_record
from josh_pipeline.search.tree import Tree
from josh_pipeline.settings import KtoSettings, Settings
from josh_pipeline.stages.evaluation import evaluate_candidate
from josh_pipeline.stages.labels import label_rewards
from josh_pipeline.stages.preferences import harvest_rows
from josh_pipeline.stages.rollouts import roll_out
from josh_pipeline.store.home import Home


@pytest.fixture
def home(finished: Home, tmp_path: Path) -> Home:
    return copied(finished, tmp_path)


def audited(home: Home) -> Audit:
    return audit_home(home, None, SilentProgress())[0]


def said(audit: Audit) -> str:
    return "\n".join(f"{finding.where}: {finding.message}" for finding in audit.of("broken"))


def retried(audit: Audit) -> set[str]:
    """Generations that say that a part of them was played again."""
    return {finding.where for finding in audit.of("superseded") if "played again since" in finding.message}


def alter(home: Home, sql: str) -> None:
    with home.warehouse().connection() as connection:
        connection.execute(sql)


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


def test_a_failed_conversation_that_a_later_iteration_plays_again_breaks_nothing(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, made = with_longer_conversations(home), candidate(home, "001")
    failing_once(monkeypatch, made)
    evaluate_candidate(step_of(home, settings, "after of 001"), "001")
    failed = home.warehouse().rows("SELECT episode_id, failure FROM episodes WHERE failure IS NOT NULL")
    assert failed and audited(home).sound and not retried(audited(home))
    (name, *_) = [row["episode_id"] for row in failed]

    play_with(monkeypatch, lambda digest: 1.0)
    evaluate_candidate(step_of(home, settings, "before of 002"), "002")
    assert not home.warehouse().rows("SELECT 1 FROM episodes WHERE failure IS NOT NULL")
    assert main(["audit", "--home", str(home.root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {one["name"] for one in found["generations"] if one["status"] == "broken"} == set()
    assert retried(audited(home)) == {"evaluation/001/2"}

    alter(home, "UPDATE evaluations SET mean_reward = 0.999 WHERE iteration = '001' AND generation = 2")
    alter(home, f"UPDATE episodes SET reward = 0.5 WHERE episode_id = '{name}'")
    broken = said(audited(home))
    assert "of table evaluations of evaluation/001/2 was altered" in broken
    assert f"Row {name} of table episodes was altered" in broken


def test_a_failed_conversation_is_held_to_what_was_found_until_it_is_played_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_once(monkeypatch, candidate(home, "001"))
    evaluate_candidate(step_of(home, with_longer_conversations(home), "after of 001"), "001")
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
    search(home, "cut")
    label_rewards(step_of(home, again(home), "cut"), "002")
    harvest_rows(step_of(home, again(home), "cut"), "002")
    monkeypatch.setattr("josh_pipeline.stages.rollouts.tree_record", tree_record)
    return marked[0]


def again(home: Home) -> Settings:
    return home.settings().model_copy(update={"seed": 5, "training": KtoSettings()})


def search(home: Home, run_id: str) -> None:
    roll_out(step_of(home, again(home), run_id), "002")


def search_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Search what was cut with a policy that never earns, so that another tree comes of it."""
    play_with(monkeypatch, lambda digest: 0.0)
    search(home, "retry")


def harvested(home: Home, where: str) -> list[str]:
    rows = home.warehouse().rows(
        f"SELECT row_id FROM current_preference_rows WHERE iteration = '002' AND {where} ORDER BY position"
    )
    return [row["row_id"] for row in rows]


def test_a_tree_that_was_cut_and_is_searched_again_breaks_neither_labels_nor_rows(
    home: Home, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_the_cut, of_others = (harvested(home, f"rollout_id {sign} '{cut}'") for sign in ("=", "<>"))
    assert of_the_cut and of_others and audited(home).sound

    search_again(home, monkeypatch)
    assert home.warehouse().rows("SELECT 1 FROM trees WHERE rollout_id = ? AND failure IS NULL", [cut])
    found = audited(home)
    assert said(found) == ""
    assert retried(found) >= {"labels/002/2", "preferences/002/2"}
    assert main(["audit", "--home", str(home.root)]) == 0

    row = audit_row(home, of_the_cut[0])
    assert row.audit.sound and "was searched again" in row.audit.of("superseded")[0].message
    assert not row.nodes, "the nodes that it came from are gone"
    page = home.root / "row.html"
    assert main(["audit", of_the_cut[0], "--home", str(home.root), "--html", str(page)]) == 0
    assert audit_row(home, of_others[0]).audit.sound

    label_rewards(step_of(home, again(home), "retry"), "002")
    harvest_rows(step_of(home, again(home), "retry"), "002")
    assert said(audited(home)) == ""


def test_what_is_altered_beside_a_tree_that_was_searched_again_is_named(
    home: Home, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mine, *_), (other, *_) = (harvested(home, f"rollout_id {sign} '{cut}'") for sign in ("=", "<>"))
    search_again(home, monkeypatch)
    alter(home, f"UPDATE preference_rows SET desirable = NOT desirable WHERE row_id IN ('{mine}', '{other}')")
    alter(home, f"DELETE FROM row_nodes WHERE row_id = '{other}'")
    alter(home, f"UPDATE trees SET reward = 0.25 WHERE rollout_id = '{cut}'")
    broken = said(audited(home))
    for name in (mine, other):
        assert f"Row {name} of table preference_rows of preferences/002/2 was altered" in broken
    assert f"The link from row {other}" in broken
    assert f"Row {cut} of table trees was altered" in broken
    assert f"Tree {cut}: reward 0.25 is stored" in broken


def test_a_store_whose_seals_do_not_tell_what_had_failed_is_told_by_the_runs(
    home: Home, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    search_again(home, monkeypatch)
    alter(home, "DELETE FROM seals; UPDATE generations SET content = NULL, digest = NULL, sealed_at = NULL")
    assert said(audited(home)) == ""
    seal_what_is_unsealed(home.warehouse())
    found = audited(home)
    assert said(found) == "" and not found.of("unsealed")
    assert retried(found) >= {"labels/002/2", "preferences/002/2"}
