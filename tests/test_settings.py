"""Settings laid over a profile's: what a change of the training method keeps, and what it drops."""

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from josh_pipeline.core.errors import UserError
from josh_pipeline.settings import DpoSettings, KtoSettings, SftSettings, load_settings, merged, profile_names

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
