"""An environment of one's own: a class in a file plays in every room, and no file of the library knows it."""

import asyncio
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes import said
from till import NAME, PRICES, Till, TillWorld

from josh_pipeline.cli.main import main
from josh_pipeline.core.environment import Carelessness, Environment, EnvironmentSettings, Task
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.messages import Message
from josh_pipeline.core.oracle import solved_by_oracle
from josh_pipeline.core.policy import Sampling
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.dialogue.agents import CompactAgent
from josh_pipeline.dialogue.conversation import converse
from josh_pipeline.dialogue.demonstrations import demonstrate, user_ceiling
from josh_pipeline.environments.registry import environment_class
from josh_pipeline.settings import load_settings


@pytest.fixture
def till() -> Environment[Task]:
    return environment_class(NAME).read(EnvironmentSettings(name=NAME), Path(), SilentProgress())


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(text) for text in capsys.readouterr().out.splitlines()]


def replayed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *records: object) -> Any:
    texts = [record if isinstance(record, str) else json.dumps(record) for record in records]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(texts)))
    assert main(["replay", "-", "--env", NAME]) == 0
    return lines(capsys)


def test_goals_prints_a_line_for_every_task(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["goals", "--env", NAME]) == 0
    found = lines(capsys)
    assert [one["source_id"] for one in found] == list(PRICES)
    assert found[0] == {
        "goal_id": "sell-tea",
        "source_id": "tea",
        "split": "menu",
        "role": "train",
        "message": ["You want tea."],
        "calls": [{"tool": "charge", "parameters": {"amount": 3}}],
        "excluded": None,
    }


def test_goals_of_one_list_and_of_a_list_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["goals", "--env", NAME, "--split", "vault"]) == 0
    assert [(one["source_id"], one["excluded"]) for one in lines(capsys)] == [("gold", "not for sale")]
    assert main(["goals", "--env", NAME, "--split", "test"]) == 1
    assert "has no test list: use --split with menu or vault." in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--corpus", "--semantics"])
def test_an_option_that_the_environment_has_no_setting_for_is_one_sentence(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["goals", "--env", NAME, option, "x"]) == 1
    assert capsys.readouterr().err == f"josh: {NAME} takes no {option}: leave it out.\n"


def test_replay_says_results_what_was_earned_and_whether_all_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right, wrong = ({"tool": "charge", "arguments": {"amount": amount}} for amount in (3, 4))
    found = replayed(
        monkeypatch,
        capsys,
        {"source_id": "tea", "calls": [right]},
        {"source_id": "tea", "calls": [right], "replies": ["Here you are."]},
        {"source_id": "tea", "calls": [right], "replies": ["Here you are.", "Come again, please."]},
        {"source_id": "tea", "calls": [right, wrong], "replies": ["please"]},
        {"source_id": "sell-tea", "calls": [{"tool": "receipt", "arguments": {}}]},
    )
    assert found[0] == {
        "source_id": "tea", "results": [{"paid": True}], "earned": [0], "void": False, "reward": 0.25,
    }  # fmt: skip
    assert [(one["earned"], one["void"], one["reward"]) for one in found[1:]] == [
        ([0, 1], False, 0.5),
        ([0, 1], False, 1.0),
        ([0, 1], True, 0.0),
        ([], False, 0.0),
    ]
    assert found[4]["results"] == ["There is no receipt."]


def test_replay_answers_a_malformed_line_and_a_world_that_breaks_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = replayed(
        monkeypatch,
        capsys,
        "nonsense",
        {"dialogue_id": "tea", "calls": []},
        {"source_id": "tea", "calls": [{"tool": "charge"}]},
        {"source_id": "tea", "calls": [], "replies": "Hello."},
        {"source_id": "silver", "calls": []},
        {"source_id": "gold", "calls": []},
        {"source_id": "tea", "calls": [{"tool": "charge", "arguments": None}]},
    )
    assert [one["line"] for one in found] == list(range(1, 8))
    said = [one["error"] for one in found]
    assert said[0].startswith("The line is not JSON")
    assert said[1].startswith('The line is not of the form {"source_id": ..., "calls": [{"tool"')
    assert said[2:6] == [
        "A call is not an object with tool and arguments.",
        "The replies are not a list of texts.",
        "There is no task of source 'silver'.",
        "The task of source 'gold' is excluded: not for sale.",
    ]
    assert said[6].startswith("The tool charge raised TypeError")


def test_a_source_of_several_tasks_asks_for_one_of_them(till: Environment[Task]) -> None:
    class Twice(Till):
        def tasks(self) -> Sequence[Task]:
            tea = super().tasks()[0]
            return [tea, Task(**{**vars(tea), "goal_id": "sell-more-tea"})]

    twice = Twice(till.settings)
    with pytest.raises(Exception, match="Source 'tea' has 2 tasks: give the goal_id of one"):
        twice.listed_task("tea")
    assert twice.listed_task("sell-more-tea").goal_id == "sell-more-tea"


def test_settings_find_it_by_its_name_and_refuse_what_it_does_not_take() -> None:
    plain = {"environment": {"name": NAME}, "cold_start": {"conversations": 0}}
    assert load_settings("quickstart", plain).environment == EnvironmentSettings(name=NAME)
    with pytest.raises(UserError, match=r"environment\.corpus: there is no such setting"):
        load_settings("quickstart", {"environment": {"name": NAME, "corpus": {}}})


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, r"till.py:Till has no scripted agent that could demonstrate: set cold_start\.conversations to 0"),
        ({"cold_start": {"conversations": 0}, "user": {"kind": "script"}}, r"choose another user\.kind"),
    ],
)
def test_what_it_does_not_have_is_refused_before_it_is_read(asked: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        load_settings("quickstart", {"environment": {"name": NAME}} | asked)


def test_it_is_played_by_an_agent_that_is_told_of_its_tools(till: Environment[Task]) -> None:
    task = till.tasks()[1]
    world = till.world(task)
    policy = said('{"name": "charge", "parameters": {"amount": 5}}', "Here, please.", "Bye.")
    talk = asyncio.run(
        converse(
            policy, CompactAgent("compact"), till.user(task, 0, 8), world,
            sampling=Sampling(0.0, 64), max_requests=3, max_messages=15, seed=lambda turn, request: request,
        )
    )  # fmt: skip
    assert talk.user_done and world.outcome(talk.messages) == 1.0
    prompts = [request.messages[0].content.split("\n")[-1] for request in policy.asked]
    assert prompts == ["charge(amount)", "charge(amount)", "receipt()"]


def test_what_it_does_not_say_has_a_default(till: Environment[Task]) -> None:
    tasks = till.tasks()
    assert [solved_by_oracle(till, task) is not None for task in tasks] == [True] * 4 + [False]
    assert till.played == till.headline == "task"
    assert till.check_digest() == till.snapshot().digest == type(till)(till.settings).digest
    assert till.lines(tasks[0]) == () and till.transcript(tasks[0]) == ""
    assert asyncio.run(demonstrate(till, tasks, Carelessness(), 0, 8)) == []
    limits = {"max_turns": 8, "max_messages": 15, "max_requests": 3}
    assert asyncio.run(user_ceiling(till, tasks, lambda task: 0, **limits)) is None
    with pytest.raises(Exception, match="has no selection 'test-450': use --role"):
        till.selection("test-450", tasks)


def test_a_world_forks_by_copying_unless_it_knows_better() -> None:
    world = TillWorld(3)
    world.call("charge", {"amount": 3})
    fork = world.fork()
    fork.hand_over()
    assert (world.milestones(), fork.milestones()) == ({0}, {0, 1})
    assert world.outcome((Message("user", "please"),)) == 0.25


def test_the_example_of_the_docs_plays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[1] / "docs" / "environments.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    (tmp_path / "shop.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    assert main(["goals", "--env", "shop.py:Shop"]) == 0
    assert [one["role"] for one in lines(capsys)] == ["train"] * 4 + ["val", "test"]
    assert main(["check-env", "shop.py:Shop"]) == 0
    printed = re.sub(r"[\d.,]+ (?=ms|bytes)", "N ", capsys.readouterr().out)
    assert printed in re.sub(r"[\d.,]+ (?=ms|bytes)", "N ", page), "what the page shows is what it says"
    call = {"tool": "cancel_order", "arguments": {"number": "A1"}}
    records = [{"source_id": "A1", "calls": [call]}, {"source_id": "A2", "calls": [call]}]
    (tmp_path / "calls.jsonl").write_text("\n".join(map(json.dumps, records)))
    assert main(["replay", "calls.jsonl", "--env", "shop.py:Shop"]) == 0
    assert [(one["reward"], one["void"]) for one in lines(capsys)] == [(1.0, False), (0.0, True)]
    shop = environment_class("shop.py:Shop").read(EnvironmentSettings(name="shop.py:Shop"), tmp_path, SilentProgress())
    found = [solved_by_oracle(shop, task) for task in shop.tasks()]
    assert all(one is not None and one.solvable for one in found)
