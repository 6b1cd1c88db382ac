"""Settings laid over a profile's: what a change of the training method keeps, and what it drops."""

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from dagster._utils.schedules import is_valid_cron_schedule, schedule_execution_time_iterator
from hypothesis import given
from hypothesis import strategies as st

from josh_pipeline.core.checks import checked_cron
from josh_pipeline.core.errors import UserError
from josh_pipeline.settings import load_settings, merged, profile_names
from josh_pipeline.settings.training import DpoSettings, KtoSettings, SftSettings

PART = r"(\*|[0-9]{1,2}(-[0-9]{1,2})?)(/[0-9]{1,2})?"
CRON = rf"{PART}(,{PART})?( {PART}){{4}}"
OF = {"sft": SftSettings, "kto": KtoSettings, "dpo": DpoSettings}


@pytest.mark.parametrize(("old", "new"), list(permutations(OF, 2)))
def test_another_method_brings_its_own_vetted_values_and_keeps_what_all_share(old: str, new: str) -> None:
    values: dict[str, Any] = OF[old](max_tokens=321, epochs=5, learning_rate=0.5, batch_size=3).model_dump()
    found = OF[new].model_validate(merged({"training": values}, {"training": {"method": new}})["training"])
    fresh = OF[new]()
    assert (found.learning_rate, found.batch_size) == (fresh.learning_rate, fresh.batch_size)
    assert (found.max_tokens, found.epochs) == (321, 5)


def test_the_same_method_keeps_everything_else() -> None:
    values = KtoSettings(learning_rate=0.5, beta=0.3).model_dump()
    found = merged({"training": values}, {"training": {"method": "kto", "beta": 0.2}})["training"]
    assert KtoSettings.model_validate(found) == KtoSettings(learning_rate=0.5, beta=0.2)


def test_a_profile_of_sft_can_be_run_with_dpo() -> None:
    training = load_settings("quickstart", {"training": {"method": "dpo", "beta": 0.2}}).training
    assert training == DpoSettings(beta=0.2)


def test_every_shipped_profile_is_a_whole_one_named_by_its_file() -> None:
    assert {name: load_settings(name).profile for name in profile_names()} == {n: n for n in profile_names()}


@pytest.mark.parametrize(("method", "rate", "step"), [("sft", 2e-5, 16), ("dpo", 5e-6, 16)])
def test_the_papers_profile_has_forms_for_other_methods_that_differ_in_training_alone(
    method: str, rate: float, step: int
) -> None:
    paper, other = load_settings("paper"), load_settings(f"paper-{method}")
    training = other.training
    assert (training.method, training.learning_rate) == (method, rate)
    assert training.batch_size * training.accumulation == step
    assert (training.lora, training.max_tokens) == (paper.training.lora, paper.training.max_tokens)
    same = {"profile": "paper", "training": paper.training}
    assert other.model_copy(update=same) == paper


@pytest.mark.parametrize("name", profile_names())
def test_a_profile_may_extend_any_shipped_one(name: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"extends: {name}\nsearch: {{beam_size: 2}}\n")
    found, shipped = load_settings(str(mine)), load_settings(name)
    search = shipped.search.model_copy(update={"beam_size": 2})
    assert found == shipped.model_copy(update={"profile": "mine", "search": search})


def test_a_profile_may_extend_no_other(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"extends: {mine}\n")
    with pytest.raises(UserError, match=r"only cpu-hour, .* can be extended"):
        load_settings(str(mine))


@pytest.mark.parametrize("user", ["goal", "guide"])
def test_a_user_that_is_a_model_needs_one(user: str) -> None:
    with pytest.raises(UserError, match=r"set user\.endpoint and user\.model"):
        load_settings("quickstart", {"user": {"kind": user, "model": "gpt-4o"}})


@pytest.mark.parametrize("agent", [{"agent": "react"}, {"results": "full"}])
def test_demonstrations_are_refused_to_an_agent_that_would_read_them_otherwise(agent: dict[str, str]) -> None:
    with pytest.raises(UserError, match=r"or cold_start\.conversations to 0"):
        load_settings("quickstart", {"policy": agent})
    undemonstrated = {"policy": agent, "cold_start": {"conversations": 0}}
    assert load_settings("quickstart", undemonstrated).cold_start.conversations == 0


MISSPELT = """
extends: quickstart
serach: {goals: 3}
search: {beam_sise: 3}
training: {learning_rat: 3, lora: {rank: 3}}
environment: {corpus: {sorce: here}}
"""


def test_a_misspelt_setting_is_told_the_name_that_was_meant_on_its_level(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(MISSPELT)
    with pytest.raises(UserError) as fault:
        load_settings(str(mine))
    told = str(fault.value)
    assert told.startswith(f"Profile {mine} has 5 faulty settings: ")
    for place, meant in (
        ("serach", "search"),
        ("search.beam_sise", "beam_size"),
        ("training.learning_rat", "learning_rate"),
        ("environment.corpus.sorce", "source"),
    ):
        assert f"{place}: there is no such setting (did you mean {meant}?)" in told
    assert "training.lora.rank: there is no such setting;" in told, "nothing of that name is near"


def test_a_fault_is_told_of_what_gave_the_setting(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("search: {goals: 0}\n")
    given = {"seed": -1, "policy": {"endpoint": "here"}}
    with pytest.raises(UserError) as fault:
        load_settings(str(mine), given, {("seed",): "--seed", (): "the launchpad"})
    parts = [part.split(" has ")[0] for part in str(fault.value).rstrip(".").split(". ")]
    assert parts == ["--seed", "The launchpad", f"Profile {mine}"]
    with pytest.raises(UserError, match=r"^Profile quickstart with --model has 1 faulty setting: the cold start"):
        load_settings("quickstart", {"policy": {"model": "m", "agent": "react"}}, {("policy", "model"): "--model"})


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:port/v1",
        "http://localhost:99999/v1",
        "http://[::1/v1",
        "http://",
        "localhost:8000/v1",
        "ftp://localhost/v1",
        "http://\ud800/v1",
        "",
    ],
)
@pytest.mark.parametrize("section", ["policy", "user"])
def test_an_endpoint_that_is_no_url_is_refused(url: str, section: str) -> None:
    with pytest.raises(UserError, match="is no URL of a server: give one like") as fault:
        load_settings("quickstart", {section: {"endpoint": url}})
    assert str(fault.value).endswith(".") and "\n" not in str(fault.value)


@pytest.mark.parametrize("method", ["kto", "dpo"])
def test_a_method_that_learns_from_failures_is_refused_a_search_without_siblings(method: str) -> None:
    for search in ({"beam_size": 1}, {"children": 1}):
        asked = {"training": {"method": method}, "search": search}
        with pytest.raises(UserError, match=r"set search\.beam_size and search\.children to 2 or more"):
            load_settings("quickstart", asked)
        load_settings("quickstart", asked | {"search": search | {"restarts": 1}})
    assert load_settings("quickstart", {"search": {"beam_size": 1}}).search.beam_size == 1


@pytest.mark.parametrize("section", ["search", "evaluation"])
def test_answers_that_fill_the_whole_context_are_refused(section: str) -> None:
    with pytest.raises(UserError, match=r"set policy\.max_model_tokens higher"):
        load_settings("quickstart", {section: {"max_tokens": 1536}})


@given(cron=st.from_regex(CRON, fullmatch=True))
def test_a_cron_string_that_is_taken_has_a_next_moment_for_dagster(cron: str) -> None:
    try:
        checked_cron(cron)
    except ValueError:
        return
    assert is_valid_cron_schedule(cron)
    moments = schedule_execution_time_iterator(0.0, cron, "UTC")
    assert next(moments) < next(moments)


@pytest.mark.parametrize("cron", ["0 3 * * 1", "*/15 8-18 1,15 jan-mar Mon", "0 0 29 2 *", "5/10 * * * 7"])
def test_ordinary_cron_strings_are_taken(cron: str) -> None:
    assert checked_cron(cron) == cron


@pytest.mark.parametrize(
    "cron", ["weekly", "0 3 * *", "60 * * * *", "0 3 30 2 *", "0 3 31 4,6 *", "*/0 * * * *", "0 9-3 * * *", "٣ 3 * * *"]
)
def test_a_cron_string_without_a_next_moment_is_refused(cron: str) -> None:
    with pytest.raises(UserError, match=r"automation\.retraining_cron: "):
        load_settings("quickstart", {"automation": {"retraining_cron": cron}})


@pytest.mark.parametrize("zone", ["Mars/Olympus", "Europe", "../UTC", ""])
def test_a_time_zone_that_does_not_exist_is_refused(zone: str) -> None:
    with pytest.raises(UserError, match=r"automation\.timezone: there is no time zone"):
        load_settings("quickstart", {"automation": {"timezone": zone}})
