"""``josh audit``: what is sound, what was altered and is named, and what a rerun has replaced."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from finished_home import copied, run_iteration, step_of
from tiny_loop import play_with

from josh_pipeline.audit.findings import Audit
from josh_pipeline.audit.row import audit_row
from josh_pipeline.audit.sealing import seal_what_is_unsealed
from josh_pipeline.audit.whole import audit_home
from josh_pipeline.cli.main import main
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.settings import KtoSettings
from josh_pipeline.stages.preferences import harvest_rows
from josh_pipeline.store.home import Home


@pytest.fixture
def home(finished: Home, tmp_path: Path) -> Home:
    return copied(finished, tmp_path)


def audited(home: Home, iteration: str | None = None) -> Audit:
    return audit_home(home, iteration, SilentProgress())[0]


def said(audit: Audit) -> str:
    return "\n".join(f"{finding.where}: {finding.message}" for finding in audit.of("broken"))


def alter(home: Home, sql: str) -> None:
    with home.warehouse().connection() as connection:
        connection.execute(sql)


def one(home: Home, sql: str) -> str:
    return str(next(iter(home.warehouse().rows(f"{sql} LIMIT 1")[0].values())))


def test_an_untouched_home_is_sound_from_corpus_to_adapter(
    finished: Home, capsys: pytest.CaptureFixture[str]
) -> None:
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


def node_with_calls(home: Home) -> str:
    return one(home, "SELECT node_id FROM nodes WHERE calls::VARCHAR <> '[]' ORDER BY node_id")


def tree_reward(home: Home) -> str:
    name = one(home, "SELECT rollout_id FROM trees WHERE reward = 1 ORDER BY rollout_id")
    alter(home, f"UPDATE trees SET reward = 0.25 WHERE rollout_id = '{name}'")
    return name


def message(home: Home) -> str:
    name = node_with_calls(home)
    changed = """replace(messages::VARCHAR, '"content":"', '"content":"Well, ')"""
    alter(home, f"UPDATE nodes SET messages = {changed} WHERE node_id = '{name}'")
    return name


def call_result(home: Home) -> str:
    name = node_with_calls(home)
    changed = "replace(calls::VARCHAR, '\"matches\":', '\"matches\":9')"
    alter(home, f"UPDATE nodes SET calls = {changed} WHERE node_id = '{name}'")
    return name


def adapter_byte(home: Home) -> str:
    name = one(home, "SELECT adapter_digest FROM trainings ORDER BY 1")
    weights = home.adapters / name / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    return name


def manifest(home: Home) -> str:
    name = one(home, "SELECT adapter_digest FROM trainings ORDER BY 1")
    path = home.adapters / f"{name}.json"
    path.write_text(path.read_text().replace('"attempt": 1', '"attempt": 2'))
    return name


def deleted_goal(home: Home) -> str:
    name = one(home, "SELECT goal_id FROM trees ORDER BY 1")
    alter(home, f"DELETE FROM goals WHERE goal_id = '{name}'")
    return name


def dialogue(home: Home) -> str:
    name = one(home, "SELECT dialogue_id FROM dialogues ORDER BY 1")
    alter(home, f"UPDATE dialogues SET log = '[]' WHERE dialogue_id = '{name}'")
    return name


def entity(home: Home) -> str:
    alter(home, "DELETE FROM entities WHERE domain = 'hotel' AND position = 3")
    return "hotel/3"


def label(home: Home) -> str:
    name = one(home, "SELECT node_id FROM labels WHERE NOT golden AND NOT successful ORDER BY 1")
    alter(home, f"UPDATE labels SET golden = true WHERE node_id = '{name}'")
    return name


def row_node(home: Home) -> str:
    name = one(home, "SELECT row_id FROM row_nodes ORDER BY 1")
    alter(home, f"DELETE FROM row_nodes WHERE row_id = '{name}'")
    return name


def training_row(home: Home) -> str:
    name = one(home, "SELECT row_id FROM preference_rows ORDER BY 1")
    changed = "replace(completion::VARCHAR, 'I recommend', 'I hate')"
    alter(home, f"UPDATE preference_rows SET completion = {changed} WHERE row_id = '{name}'")
    return name


def added_row(home: Home) -> str:
    alter(
        home,
        "INSERT INTO preference_rows SELECT * REPLACE ('0000111122223333' AS row_id) "
        "FROM preference_rows LIMIT 1",
    )
    return "0000111122223333"


def episode_reward(home: Home) -> str:
    name = one(home, "SELECT episode_id FROM episodes WHERE reward = 1 ORDER BY 1")
    alter(home, f"UPDATE episodes SET reward = 0, success = false WHERE episode_id = '{name}'")
    return name


def score(home: Home) -> str:
    alter(home, "UPDATE evaluations SET mean_reward = 0.999 WHERE iteration = '001' AND side = 'before'")
    return "evaluation/001/1 before/test"


def run_settings(home: Home) -> str:
    alter(home, "UPDATE runs SET seed = 99 WHERE run_id = 'run-1'")
    return "run-1"


def generation(home: Home) -> str:
    alter(home, "DELETE FROM generations WHERE stage = 'rollouts' AND scope = '002'")
    return "rollouts/002/1"


def old_made_current(home: Home) -> str:
    """Make the policy current again that a run has replaced."""
    alter(home, "UPDATE generations SET current = generation = 1 WHERE stage = 'policy' AND scope = '001'")
    return "policy/001/1: It is current, and generation 2 is newer"


def none_current(home: Home) -> str:
    alter(home, "UPDATE generations SET current = false WHERE stage = 'labels' AND scope = '002'")
    return "labels/002/1: It is the newest and not current"


def added_tree(home: Home) -> str:
    alter(home, "INSERT INTO trees SELECT * REPLACE ('0000111122223333' AS rollout_id) FROM trees LIMIT 1")
    return "Tree 0000111122223333 has no seal"


def added_nodes(home: Home) -> str:
    alter(home, "INSERT INTO nodes SELECT * REPLACE ('0000111122223333' AS rollout_id) FROM nodes LIMIT 1")
    return "Tree 0000111122223333 has no seal"


def added_conversation(home: Home) -> str:
    alter(
        home,
        "INSERT INTO episodes SELECT * REPLACE ('0000111122223333' AS episode_id, 'endpoint' AS failure) "
        "FROM episodes LIMIT 1",
    )
    return "Conversation 0000111122223333 has no seal"


def added_with_its_run(home: Home) -> str:
    alter(home, "INSERT INTO runs SELECT * REPLACE ('run-9' AS run_id) FROM runs LIMIT 1")
    alter(
        home,
        "INSERT INTO trees SELECT * REPLACE ('0000111122223333' AS rollout_id, 'run-9' AS run_id) "
        "FROM trees LIMIT 1",
    )
    return "Tree 0000111122223333 has no seal"


def rewritten_seal(home: Home) -> str:
    """Alter a row together with its own seal: the generation's digest still tells."""
    name = one(home, "SELECT rollout_id FROM trees ORDER BY 1")
    alter(home, f"UPDATE trees SET seconds = 0 WHERE rollout_id = '{name}'")
    alter(home, f"DELETE FROM seals WHERE unit = '{name}' AND table_name = 'trees'")
    return name


@pytest.mark.parametrize(
    "tamper",
    [
        tree_reward, message, call_result, adapter_byte, manifest, deleted_goal, dialogue, entity, label,
        row_node, training_row, added_row, episode_reward, score, run_settings, generation, rewritten_seal,
        old_made_current, none_current, added_tree, added_nodes, added_conversation, added_with_its_run,
    ],
)  # fmt: skip
def test_whatever_was_altered_is_named(tamper: Callable[[Home], str], home: Home) -> None:
    name = tamper(home)
    assert name in said(audited(home))


def test_the_command_prints_what_is_broken_and_exits_with_1(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    name = tree_reward(home)
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
    assert "policy/001/1" in old_made_current(home)
    assert "policy/001/2: It is the newest and not current" in said(audited(home, "001"))
    none_current(home)
    assert "labels/002/1: It is the newest and not current" in said(audited(home, "002"))


def test_a_tree_whose_seals_were_removed_is_named_in_the_audits_of_its_iteration_and_its_rows(
    home: Home,
) -> None:
    rows = home.warehouse().rows("SELECT * FROM current_preference_rows WHERE iteration = '001' LIMIT 1")
    name = rows[0]["rollout_id"]
    alter(home, f"DELETE FROM seals WHERE unit = '{name}'")
    assert f"Tree {name} has no seal" in said(audited(home, "001"))
    assert f"Tree {name} has no seal" in said(audit_row(home, rows[0]["row_id"]).audit)


def test_sealing_is_refused_for_a_part_of_the_store(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    for target in (["001"], ["9b5f9685db89"], ["--dialogue", "MUL0784"]):
        assert main(["audit", *target, "--seal", "--home", str(home.root)]) == 1
        assert "--seal seals the whole store" in capsys.readouterr().err
    assert main(["audit", "--seal", "--home", str(home.root)]) == 0


def test_swapped_labels_of_preferences_are_named(home: Home) -> None:
    settings = home.settings()
    kto = settings.model_copy(update={"training": KtoSettings()})
    step = step_of(home, kto, "kto")
    harvest_rows(step, "001")
    good = one(home, "SELECT row_id FROM current_preference_rows WHERE method = 'kto' AND desirable")
    alter(home, f"UPDATE preference_rows SET desirable = NOT desirable WHERE row_id = '{good}'")
    assert f"Training row {good} has the prompt, completion and label of row" in said(audited(home))


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
    assert reasons and all("has replaced since" in one["message"] for one in reasons)
    assert audited(home).sound


def test_a_store_without_seals_is_computed_anew_and_sealed_on_demand(home: Home) -> None:
    alter(home, "DELETE FROM seals; UPDATE generations SET content = NULL, digest = NULL, sealed_at = NULL")
    first = audited(home)
    assert first.sound and {finding.where for finding in first.of("unsealed")} >= {"trees", "goals"} - {
        "goals"
    }
    name = tree_reward(home)
    assert name in said(audited(home)), "labels are computed from the calls, whatever is sealed"
    alter(home, f"UPDATE trees SET reward = 1 WHERE rollout_id = '{name}'")

    assert seal_what_is_unsealed(home.warehouse()) == len(first.of("unsealed")) - 2
    sealed = audited(home)
    assert sealed.sound and not sealed.of("unsealed")
    alter(
        home,
        "UPDATE demonstrations SET reward = 0; UPDATE policies SET model = 'other' WHERE iteration = '002'",
    )
    assert "table policies" in said(audited(home))
