"""Homes: their settings, their paths, and who may work in them."""

from pathlib import Path

import pytest

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.locks import alone
from josh_pipeline.settings import Settings, load_settings
from josh_pipeline.stages.registry import open_home
from josh_pipeline.store.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(tmp_path / "home")


def test_a_home_that_others_could_read_is_closed_to_them_when_it_is_opened(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o755)
    opened = open_home(tmp_path / "home")
    opened.warehouse()
    opened.keep_settings(Settings(profile="mine"))
    assert [path for path in (opened.root, *opened.root.rglob("*")) if path.stat().st_mode & 0o077] == []


def test_settings_are_those_of_the_last_run_else_of_the_quickstart(home: Home) -> None:
    assert home.settings() == load_settings("quickstart")
    changed = load_settings("quickstart", {"seed": 5})
    home.remember_settings(changed)
    assert home.settings() == changed
    assert home.settings("quickstart").seed == 0


def test_kept_settings_are_found_by_their_digest_and_can_be_changed_one_by_one(home: Home) -> None:
    kept = Settings(profile="mine", seed=5)
    digest = home.keep_settings(kept)
    assert home.settings(digest) == kept
    changed = home.settings(digest, {"search": {"goals": 3}})
    assert (changed.profile, changed.seed, changed.search.goals) == ("mine", 5, 3)
    with pytest.raises(UserError, match=r"search\.gaols"):
        home.settings(digest, {"search": {"gaols": 3}})


def test_every_training_method_survives_being_kept(home: Home) -> None:
    for method in ("sft", "kto", "dpo"):
        kept = Settings.model_validate({"profile": "mine", "training": {"method": method}})
        assert home.settings(home.keep_settings(kept)) == kept


def test_paths_inside_a_home_move_with_it_and_others_stay(home: Home, tmp_path: Path) -> None:
    adapter = home.adapters / "abc"
    moved = Home(tmp_path / "elsewhere", home.layout)
    assert moved.absolute(home.relative(adapter)) == moved.adapters / "abc"
    outside = tmp_path / "model"
    assert moved.absolute(home.relative(outside)) == outside


def test_a_home_is_found_by_option_environment_or_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOSH_HOME", raising=False)
    assert open_home().root == tmp_path / ".josh"
    monkeypatch.setenv("JOSH_HOME", str(tmp_path / "named"))
    assert open_home().root == tmp_path / "named"
    assert open_home(tmp_path / "given").root == tmp_path / "given"


def test_a_second_process_is_told_that_the_first_one_works(home: Home) -> None:
    first = alone(home.root / "lock", "Wait.")
    with first, pytest.raises(UserError, match="Wait"), alone(home.root / "lock", "Wait."):
        pass
    with alone(home.root / "lock", "Wait."):
        pass
