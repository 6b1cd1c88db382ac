"""``josh check-env``: what an environment that is searched has to hold, and the sentence for each promise it breaks."""

import json
import os
import re
from typing import Any

import broken_environments
import pytest

from josh_pipeline.cli.environment import CLOCK_SECONDS
from josh_pipeline.cli.main import main
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.environments.check import PROMISES, check_environment
from josh_pipeline.environments.registry import environment_class


def named(name: str) -> str:
    return f"{broken_environments.__file__}:{name}"


def checked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    status = main(["check-env", *arguments, "--json"])
    return status, json.loads(capsys.readouterr().out)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("josh_pipeline.cli.environment.CLOCK_SECONDS", 0.0)


FAULTS = {
    "SharedBasket": ("forks", r" is .* in a fork.*, and .* in a world in which the same was done anew: let fork"),
    "Itself": ("forks", r"let fork\(\) copy all that moves change\."),
    "Forgetting": ("forks", r"is .* in a fork, and .* in a world in which the same was done anew"),
    "Handle": (
        "playable",
        r"The world of task order-\w+: fork\(\) raised TypeError: cannot pickle '_thread\.lock' object",
    ),
    "Stock": (
        "repeats",
        r"result\.sold before after order\(.*\) is \d+ the first time, and \d+ the second: let its worlds",
    ),
    "RandomId": ("repeats", r'result\.order\.id after order\("item": "\w+".*\) is ".*" the first time'),
    "Numbered": ("asking", r"outcome are asked for after each move, and .* where they are not"),
    "Vanishing": ("milestones", r"order\(.*\) took milestone 0 away: what was earned has to stay earned"),
    "Stray": ("milestones", r"milestone 1 is earned, and is none of all_milestones"),
    "Forgiving": ("void", r"after order\(.*\) the world is no longer void"),
    "Generous": ("outcome", r"after order\(.*\): The outcome is 2\.0, and a reward lies in \[0, 1\]"),
    "Raising": ("calls", r"(\w+)\(.*\): The tool \w+ raised KeyError: 'item'"),
    "NoJson": ("calls", r"The tool order gave a payload that JSON cannot hold: Object of type set"),
    "WrongSchema": ("tools", r"The parameters of tool order are no JSON Schema at properties\.item\.type: \"'text'"),
    "Required": ("tools", r"Tool order requires 'colour', which is none of its properties"),
    "Undescribed": ("tools", r"Tool order has no description: say in one sentence what it does"),
    "Shifting": ("tools", r"order\(.*\) changed the tools: they may change at the end of a turn"),
    "HiddenState": ("user", r'message \d of the user is "Message \d: .*", and .* when it was asked again'),
    "Moody": ("user", r"message \d of the user is .* from another user of the same seed"),
    "Twins": ("tasks", r"Goal id 'order' names several tasks"),
    "Leaking": ("tasks", r"Source 'lamp' has tasks of several roles"),
    "Given": ("earnable", r"all milestones are earned before anything was done: exclude it"),
    "Unsolved": ("oracle", r"The oracle solves none of 6 tasks"),
    "Closed": ("playable", r"The world of task order-\w+ failed \(ValueError: closed on Mondays\)"),
}
"""Name of a shelf to the promise that it breaks, and what is said of it."""


@pytest.mark.parametrize("name", FAULTS)
def test_a_broken_promise_is_named_in_one_sentence(
    name: str, impatient: None, capsys: pytest.CaptureFixture[str]
) -> None:
    promise, sentence = FAULTS[name]
    status, found = checked(capsys, named(name))
    assert status == 1 and found["passed"] is False
    broken = {one["name"]: one for one in found["promises"] if not one["kept"]}
    assert list(broken) == [promise]
    assert re.search(sentence, broken[promise]["sentence"]), broken[promise]["sentence"]
    assert broken[promise]["faults"] and "\n" not in broken[promise]["sentence"]


def test_what_keeps_its_promises_passes_with_a_sentence_each_and_the_cost_of_a_fork(
    impatient: None, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = checked(capsys, named("Shelf"))
    assert status == 0 and found["passed"] and found["not_looked_at"] == found["unsolved"] == []
    assert {one["name"]: one["sentence"] for one in found["promises"]} == {one.name: one.holds for one in PROMISES}
    assert found["tasks"] == {"train": 2, "val": 2, "test": 2} and found["scripts"] == 24
    assert 0 < found["fork"]["milliseconds"] < 100 and 0 < found["fork"]["bytes"] < 100_000

    assert main(["check-env", named("Shelf")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("broken_environments.py:Shelf: 24 scripts on 6 tasks (train 2, val 2, test 2)")
    assert [line.split()[:2] for line in lines[1:-1]] == [["ok", one.name] for one in PROMISES]
    assert re.fullmatch(r"A fork takes [\d.]+ ms and [\d,]+ bytes \(tracemalloc; medians\)\.", lines[-1])


def test_a_clock_of_whole_seconds_shows_because_all_is_played_once_more_later(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert CLOCK_SECONDS > 1
    status, found = checked(capsys, named("Clock"))
    (broken,) = [one for one in found["promises"] if one["name"] == "repeats"]
    assert status == 1 and not broken["kept"]
    assert re.search(r"result\.at after order\(.*\) is \d+ the first time, and \d+ the second", broken["sentence"])


def test_what_a_fault_hides_is_said_not_to_have_been_looked_at(
    impatient: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-env", named("Twins")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("BROKEN  tasks       Goal id 'order' names several tasks: let")
    hidden = ", ".join(one.name for one in PROMISES[1:])
    assert lines[2:] == [f"Not looked at: {hidden}."]
    _, found = checked(capsys, named("RandomId"))
    assert {"forks", "asking"} <= set(found["not_looked_at"]), "plays that never repeat compare with nothing"
    assert found["scripts"] == 24 and found["fork"] is None


def test_a_task_that_the_oracle_does_not_solve_is_listed_and_no_fault_while_it_solves_others(
    monkeypatch: pytest.MonkeyPatch, impatient: None, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf = environment_class(named("Shelf"))
    wrong = shelf.oracle
    monkeypatch.setattr(shelf, "oracle", lambda self, task: [] if task.source_id == "lamp" else wrong(self, task))
    assert main(["check-env", named("Shelf")]) == 0
    assert "The oracle does not solve 1: order-lamp." in capsys.readouterr().out


@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_number_of_tasks_is_spread_over_the_roles(
    number: int, impatient: None, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = checked(capsys, named("Shelf"), "--number", str(number))
    assert status == 0 and sum(found["tasks"].values()) == number
    assert [*found["tasks"]] == ["train", "val", "test"][:number] and max(found["tasks"].values()) - 1 <= number // 3


def test_two_checks_of_the_same_environment_say_the_same() -> None:
    environment_type = environment_class(named("Vanishing"))
    environment = environment_type(environment_type.Settings(name="shelf"))
    first, second = (check_environment(environment, 6, SilentProgress()).findings for _ in range(2))
    assert first == second and any(not one.passed for one in first)


def test_an_environment_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-env", "nowhere.py:Shelf"]) == 1
    assert capsys.readouterr().err.startswith("josh: There is no file nowhere.py")


@pytest.mark.parametrize("semantics", ["paper", "audited"])
def test_toolwoz_keeps_every_promise_on_the_built_in_corpus(
    semantics: str, impatient: None, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = checked(capsys, "toolwoz", "--semantics", semantics)
    assert status == 0, [one["sentence"] for one in found["promises"] if not one["kept"]]
    assert found["not_looked_at"] == [] and found["tasks"] == {"train": 4, "val": 4, "test": 4}


def test_toolwoz_keeps_every_promise_on_real_multiwoz(impatient: None, capsys: pytest.CaptureFixture[str]) -> None:
    if "JOSH_MULTIWOZ" not in os.environ:
        pytest.skip("JOSH_MULTIWOZ does not name a folder of MultiWOZ")
    status, found = checked(capsys, "toolwoz", "--corpus", os.environ["JOSH_MULTIWOZ"], "--number", "24")
    assert status == 0, [one["sentence"] for one in found["promises"] if not one["kept"]]
    assert sum(found["tasks"].values()) == 24
