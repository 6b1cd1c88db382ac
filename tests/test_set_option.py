"""``--set``: any setting from the command line, for this run alone or for the home's to come."""

import json
from pathlib import Path

import pytest
from finished_home import copied
from tiny_loop import play_with

from assets.cli import run as main
from josh_pipeline.cli.main import parser
from josh_pipeline.cli.options import settings_of
from josh_pipeline.settings import Settings
from josh_pipeline.stages.registry import open_home
from josh_pipeline.store.home import Home


@pytest.fixture
def home(finished: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    play_with(monkeypatch, lambda digest: 0.8)
    monkeypatch.setenv("DAGSTER_HOME", "")
    copy = copied(finished, tmp_path)
    monkeypatch.setenv("JOSH_HOME", str(copy.root))
    return copy


def chosen(*assignments: str) -> Settings:
    arguments = [part for one in assignments for part in ("--set", one)]
    return settings_of(open_home(), parser().parse_args(["evaluate", "--profile", "quickstart", *arguments]))


@pytest.mark.usefixtures("home")
def test_values_are_yaml_and_what_was_given_first_is_not_lost() -> None:
    found = chosen("policy.endpoint=http://h/v1", "training.beta=0.2", "training.method=kto", "training={epochs: 3}")
    assert found.policy.endpoint == "http://h/v1"
    assert found.training.model_dump(include={"method", "beta", "epochs"}) == {
        "method": "kto", "beta": 0.2, "epochs": 3,
    }  # fmt: skip
    assert chosen("policy.endpoint=http://h/v1", "policy.endpoint=null").policy.endpoint is None
    assert chosen("training.learning_rate=1e-4").training.learning_rate == 1e-4


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("evaluation.max_mesages=3", "--set evaluation.max_mesages has 1 faulty setting: evaluation.max_mesages: "
         "there is no such setting (did you mean max_messages?)."),
        ("user.max_turns=many", "--set user.max_turns has 1 faulty setting: user.max_turns: Input should be a valid "
         "integer, unable to parse string as an integer."),
        ("max_turns", "--set takes a setting and its value, like --set user.max_turns=16, and not 'max_turns'."),
        ("user.max_turns=[", "--set user.max_turns has a value that is not valid YAML, '[': quote it."),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["iterate", "evaluate"])
def test_a_fault_names_its_setting(
    home: Home, command: str, assignment: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--set", assignment]) == 1
    assert capsys.readouterr().err == f"josh: {said}\n"


def test_other_limits_are_of_one_evaluation_alone_and_its_score_says_so(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    before = home.settings()
    limits = ("--set", "evaluation.max_messages=30", "--set", "user.max_turns=16")
    for extra in ((), limits):
        assert main(["evaluate", "--number", "4", "--json", *extra]) == 0
    usual, other = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert home.settings() == before
    assert usual["policy"] == other["policy"]
    recorded = home.warehouse().rows("SELECT settings FROM runs WHERE starts_with(run_id, 'evaluate') ORDER BY 1")
    assert {json.loads(row["settings"])["user"]["max_turns"] for row in recorded} == {8, 16}
    kept = home.warehouse().rows(
        "SELECT count(*) AS n FROM episodes WHERE policy_digest = ? GROUP BY settings_digest ORDER BY n",
        [usual["policy"]],
    )
    assert [row["n"] for row in kept] == [4, 18], "four conversations of their own, beside those of the iteration"
    assert main(["scores", "--json"]) == 0
    roles = [json.loads(line)["role"] for line in capsys.readouterr().out.splitlines()]
    assert roles[-2:] == ["test (first 4)", "test (first 4), evaluation.max_messages 30, user.max_turns 16"]


def test_an_iteration_remembers_what_was_set(home: Home) -> None:
    assert main(["iterate", "--set", "search.goals=6"]) == 0
    assert open_home().settings().search.goals == 6
    counted = home.warehouse().rows("SELECT count(*) AS n FROM current_trees WHERE iteration = '003'")
    assert counted == [{"n": 6}]
