"""Settings laid over a profile's: what a change of the training method keeps, and what it drops."""

from itertools import permutations
from typing import Any

import pytest

from josh_pipeline.settings import DpoSettings, KtoSettings, SftSettings, load_settings, merged

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
