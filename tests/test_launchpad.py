"""The launchpad: every setting is there with a description, and a mistake is told before a step begins."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import dagster._config.validate
import pytest
from dagster._config import ConfigType

from assets.launchpad import settings_field
from assets.resources import Josh, JoshResource, josh_resource
from assets.serve import UNKNOWN_NAMES, suggesting
from josh_pipeline.settings import Settings


def leaves(kind: ConfigType, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, field in getattr(kind, "fields", {}).items():
        group = getattr(field.config_type, "inner_type", field.config_type)  # of what may be null
        if getattr(group, "fields", None):
            yield from leaves(group, f"{path}{name}.")
        else:
            yield f"{path}{name}", field


def settings_paths(values: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from settings_paths(value, f"{path}{name}.")
        else:
            yield f"{path}{name}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JOSH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def launched(config: dict[str, Any]) -> list[str]:
    """Launch one asset that opens a step, and return why its run failed; nothing where it did not."""
    begun: list[Settings] = []

    @dg.asset
    def looked(context: dg.AssetExecutionContext, josh: JoshResource) -> dg.MaterializeResult:
        with josh.step(context) as step:
            begun.append(step.settings)
        return dg.MaterializeResult(metadata={"goals": begun[0].search.goals})

    result = dg.materialize(
        [looked],
        resources={"josh": josh_resource()},
        run_config={"resources": {"josh": {"config": config}}},
        raise_on_error=False,
    )
    assert bool(begun) == result.success, "nothing begins with a faulty setting"
    return [
        event.step_failure_data.user_failure_data.description for event in result.all_events if event.is_step_failure
    ]


def test_every_setting_is_in_the_launchpad_with_a_description() -> None:
    fields = dict(leaves(settings_field().config_type))
    methods = [{"method": "sft"}, {"method": "kto"}, {"method": "dpo"}, {"method": "srpg"}]
    wanted = {
        path
        for training in methods
        for path in settings_paths(
            Settings.model_validate({"profile": "x", "training": training}).model_dump(mode="json")
        )
    }
    assert set(fields) == wanted - {"profile"}
    assert [path for path, field in fields.items() if len(field.description or "") < 20] == []
    assert "At least 1. Without a profile: 8." in fields["search.beam_size"].description
    assert "Of kto only" in fields["training.desirable_weight"].description
    assert not any(field.is_required for field in fields.values())


def test_a_setting_that_is_left_out_stays_and_null_unsets_one(home: Path) -> None:
    profile = home.with_name("mine.yaml")
    profile.write_text("budget: {max_tokens: 5}\nsearch: {goals: 3}\n")
    assert launched({"profile": str(profile), "settings": {"search": {"beam_size": 2}}}) == []
    josh = Josh(str(profile), {"budget": {"max_tokens": None}})
    assert josh.settings == {"budget": {"max_tokens": None}}
    assert launched({"profile": str(profile), "settings": {"budget": {"max_tokens": None}}}) == []


def test_all_faulty_values_are_told_in_one_sentence_before_anything_starts(home: Path) -> None:
    faulty = {"search": {"goals": 0, "temperature": -1.0}, "evaluation": {"bootstrap": 3}}
    (told,) = launched({"profile": "quickstart", "settings": faulty})
    for path in ("search.goals", "search.temperature", "evaluation.bootstrap"):
        assert path in told
    assert "has 3 faulty settings" in told


def test_the_uis_launchpad_begins_with_the_names_that_were_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in UNKNOWN_NAMES:
        worded = getattr(dagster._config.validate, name)
        monkeypatch.setattr(dagster._config.validate, name, suggesting(worded))
    wrong = {"search": {"beam_sise": 3}, "training": {"learning_rat": 1.0, "xyz": 1}}
    with pytest.raises(dg.DagsterInvalidConfigError) as refused:
        launched({"settings": wrong})
    told = {error.message.partition(" Received unexpected config entr")[0] for error in refused.value.errors}
    assert told == {
        "There is no beam_sise (did you mean beam_size?).",
        "There is no learning_rat (did you mean learning_rate?), no xyz.",
    }


def test_misspelt_and_mistyped_settings_are_all_refused_at_launch(home: Path) -> None:
    wrong = {"search": {"goal": 3, "beam_size": "many"}, "training": {"method": "ppo"}}
    with pytest.raises(dg.DagsterInvalidConfigError) as refused:
        launched({"settings": wrong})
    text = str(refused.value)
    assert len(refused.value.errors) == 3
    assert all(part in text for part in ('"goal"', "beam_size", "ppo"))
