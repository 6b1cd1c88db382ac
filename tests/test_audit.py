"""``josh audit``: what is sound, how what was altered is told, and what a rerun has replaced."""

import json
import re
from pathlib import Path

import pytest
from finished_home import SFT, copied, run_iteration, run_stages, step_of
from tampering import TAMPERINGS, alter, audited, one, said, with_right_digest
from tiny_loop import play_with, tiny_profile

from josh_pipeline.audit.chain import audit_row
from josh_pipeline.audit.whole import CHECKS
from josh_pipeline.cli.main import main
from josh_pipeline.core.errors import UserError
from josh_pipeline.settings.training import KtoSettings
from josh_pipeline.stages.registry import STAGES, open_home, prepare
from josh_pipeline.store.home import Home


@pytest.fixture
def home(finished: Home, tmp_path: Path) -> Home:
    return copied(finished, tmp_path)


def test_an_untouched_home_is_sound_from_corpus_to_adapter(finished: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--home", str(finished.root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sound"] and not [one for one in found["findings"] if one["status"] != "superseded"]
    stages = {one["name"].split("/")[0] for one in found["generations"]}
    assert stages == {
        "corpus", "goals", "cold_start", "policy", "rollouts", "labels", "preferences", "adapter",
        "evaluation", "promotion",
    }  # fmt: skip
    store = finished.warehouse()
    for name, table in (("nodes", "nodes"), ("trees", "trees"), ("training rows", "preference_rows")):
        assert found["checked"][name] == store.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"] != 0
    assert found["checked"]["model folders"] == 3, "the base and two adapters"


@pytest.mark.parametrize("name", TAMPERINGS)
def test_whatever_was_altered_is_named(name: str, home: Home) -> None:
    expected = TAMPERINGS[name](home)
    assert expected in said(audited(home))


def test_the_command_prints_what_is_broken_and_exits_with_1(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    name = TAMPERINGS["tree_reward"](home)
    assert main(["audit", "--home", str(home.root)]) == 1
    out = capsys.readouterr().out
    assert f"Row {name} of table trees was altered since it was written." in out
    assert f"Tree {name}: reward 0.25 is stored, 1.0 is right." in out
    assert "links do not hold" in out.splitlines()[-1]


def test_an_iteration_is_audited_with_what_it_descends_from_and_nothing_else(home: Home) -> None:
    alter(home, "UPDATE evaluations SET mean_reward = 0.999 WHERE iteration = '002'")
    assert audited(home, "001").sound
    assert not audited(home, "002").sound
    with pytest.raises(UserError, match="Nothing of iteration 007"):
        audited(home, "007")


def test_a_generation_that_was_made_current_again_is_named_in_the_audit_of_its_iteration(home: Home) -> None:
    assert "policy/001/1" in TAMPERINGS["old_made_current"](home)
    assert "policy/001/2: It is the newest and not current" in said(audited(home, "001"))
    TAMPERINGS["none_current"](home)
    assert "labels/002/1: It is the newest and not current" in said(audited(home, "002"))


def test_a_tree_whose_nodes_were_exchanged_is_named_in_the_audits_of_its_iteration_and_its_rows(home: Home) -> None:
    rows = home.warehouse().rows("SELECT * FROM current_preference_rows WHERE iteration = '001' LIMIT 1")
    name = rows[0]["rollout_id"]
    alter(home, f"UPDATE nodes SET completions = '[]' WHERE rollout_id = '{name}'")
    with_right_digest(home, "nodes", f"rollout_id = '{name}'")
    assert f"The nodes of tree {name} are not those" in said(audited(home, "001"))
    assert f"The nodes of tree {name} are not those" in said(audit_row(home, rows[0]["row_id"]).audit)


def test_swapped_labels_of_preferences_are_named(home: Home) -> None:
    kto = home.settings().model_copy(update={"training": KtoSettings()})
    run_stages(home, kto, "kto", "001", "preferences")
    good = one(home, "SELECT row_id FROM current_preference_rows WHERE label = 'desirable'")
    swapped = "replace(sides::VARCHAR, '\"desirable\"', '\"undesirable\"')"
    alter(home, f"UPDATE preference_rows SET sides = {swapped} WHERE row_id = '{good}'")
    assert f"Training row {good} has the prompt, sides and labels of row" in said(audited(home))


def test_a_rerun_of_an_earlier_iteration_leaves_the_later_one_superseded_and_sound(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    play_with(monkeypatch, lambda digest: 0.8)
    run_iteration(home, home.settings(), "001", "again")
    assert main(["audit", "2", "--home", str(home.root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    superseded = {one["name"] for one in found["generations"] if one["status"] == "superseded"}
    assert {"promotion/001/1", "rollouts/001/1", "adapter/001/1"} <= superseded
    reasons = [one for one in found["findings"] if one["status"] == "superseded"]
    assert reasons and all(re.search("has replaced (it )?since", one["message"]) for one in reasons)
    assert audited(home).sound


def test_a_byte_of_the_base_that_a_cold_start_was_merged_into_is_named(tmp_path: Path) -> None:
    home = open_home(tmp_path / "home")
    taught = {"conversations": 2, "epochs": 1}
    settings = home.settings(str(tiny_profile(tmp_path, cold_start=taught, training=SFT)))
    prepare(step_of(home, settings, "prepare"))
    assert audited(home).sound
    path = one(home, "SELECT base_path FROM base_models")
    weights = next(home.absolute(path).glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x07")
    assert f"The files in {path} have the digest" in said(audited(home))


def test_every_stage_is_computed_anew() -> None:
    assert {*CHECKS, "labels"} == {stage.name for stage in STAGES}  # labels with the trees that they are of
