"""``josh audit``: what is sound, what was altered and is named, and what a rerun has replaced."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from finished_home import SFT, copied, run_iteration, run_stages, step_of
from tiny_loop import play_with, tiny_profile

from josh_pipeline.audit.chain import audit_row
from josh_pipeline.audit.context import Audit
from josh_pipeline.audit.whole import CHECKS, audit_home
from josh_pipeline.cli.main import main
from josh_pipeline.core.content import content_id
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.search.search import rollout_id
from josh_pipeline.settings import KtoSettings
from josh_pipeline.stages.registry import STAGES, open_home, prepare
from josh_pipeline.store.digests import generation_digest, generation_rows, row_digest
from josh_pipeline.store.home import Home
from josh_pipeline.store.lineage import history


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


def with_right_digest(home: Home, table: str, where: str) -> None:
    """Let rows have the digest of what they hold now, as a forger would."""
    alter(home, f"UPDATE {table} SET digest = {row_digest(table)} WHERE {where}")


def one(home: Home, sql: str) -> str:
    return str(next(iter(home.warehouse().rows(f"{sql} LIMIT 1")[0].values())))


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


def source(home: Home) -> str:
    name = one(home, "SELECT source_id FROM sources ORDER BY 1")
    alter(home, f"UPDATE sources SET content = '{{}}' WHERE source_id = '{name}'")
    return f"Row {name} of table sources"


def entity(home: Home) -> str:
    alter(home, "DELETE FROM entities WHERE collection = 'hotel' AND position = 3")
    return "Of table entities, 1 rows are missing"


def altered_entity(home: Home) -> str:
    alter(home, "UPDATE entities SET content = '{}' WHERE collection = 'hotel' AND position = 3")
    return "hotel/3"


def deleted_node(home: Home) -> str:
    name = one(home, "SELECT node_id FROM nodes WHERE round = 1 ORDER BY path DESC, node_id")
    alter(home, f"DELETE FROM nodes WHERE node_id = '{name}'")
    return name


def deleted_tree(home: Home) -> str:
    name = one(home, "SELECT rollout_id FROM trees ORDER BY 1")
    for table in ("trees", "nodes"):
        alter(home, f"DELETE FROM {table} WHERE rollout_id = '{name}'")
    return f"Tree {name} is missing"


def deleted_conversation(home: Home) -> str:
    name = one(home, "SELECT episode_id FROM episodes ORDER BY 1")
    alter(home, f"DELETE FROM episodes WHERE episode_id = '{name}'")
    return f"Conversation {name} is missing"


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
    changed = "replace(sides::VARCHAR, 'I recommend', 'I hate')"
    alter(home, f"UPDATE preference_rows SET sides = {changed} WHERE row_id = '{name}'")
    return name


def added_row(home: Home) -> str:
    alter(
        home, "INSERT INTO preference_rows SELECT * REPLACE ('0000111122223333' AS row_id) FROM preference_rows LIMIT 1"
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
    return "0000111122223333"


def added_nodes(home: Home) -> str:
    alter(home, "INSERT INTO nodes SELECT * REPLACE ('0000111122223333' AS rollout_id) FROM nodes LIMIT 1")
    return "There are nodes of tree 0000111122223333, and no such tree"


def added_conversation(home: Home) -> str:
    alter(
        home,
        "INSERT INTO episodes SELECT * REPLACE ('0000111122223333' AS episode_id, 'endpoint' AS failure) "
        "FROM episodes LIMIT 1",
    )
    return "0000111122223333"


def added_goal(home: Home) -> str:
    alter(home, "INSERT INTO goals SELECT * REPLACE ('0000111122223333' AS goal_id) FROM goals LIMIT 1")
    return "Goal 0000111122223333 does not follow"


def added_label(home: Home) -> str:
    alter(home, "INSERT INTO labels SELECT * REPLACE ('0000111122223333' AS node_id) FROM labels LIMIT 1")
    return "The label of node 0000111122223333 does not follow"


def forged_reward(home: Home) -> str:
    """Alter a reward, and let the row's digest follow from it: the list of trees tells."""
    name = one(home, "SELECT rollout_id FROM current_trees WHERE iteration = '001' AND reward = 1")
    alter(home, f"UPDATE trees SET reward = 0.25, seconds = 0 WHERE rollout_id = '{name}'")
    with_right_digest(home, "trees", f"rollout_id = '{name}'")
    return f"Tree {name} is not what rollouts/"


def forged_list(home: Home) -> str:
    """The same, and let the list of trees follow too: only the generation's content tells."""
    forged_reward(home)
    alter(home, "UPDATE rollouts r SET tree_digest = t.digest FROM trees t WHERE t.rollout_id = r.rollout_id")
    with_right_digest(home, "rollouts", "true")
    return "rollouts/001/1: Its rows do not add up to its content"


def forged_cost(home: Home) -> str:
    """Alter what nothing can be computed from, together with the row's own digest."""
    alter(home, "UPDATE trainings SET tokens = 1 WHERE iteration = '001'")
    with_right_digest(home, "trainings", "iteration = '001'")
    return "adapter/001/1: Its rows do not add up to its content"


def forged_node(home: Home) -> str:
    """Add a node that is named rightly and has its digest."""
    tree = one(home, "SELECT rollout_id FROM trees ORDER BY 1")
    name = content_id(tree, [7])
    alter(
        home,
        f"INSERT INTO nodes SELECT * REPLACE ('{name}' AS node_id, '[7]' AS path) FROM nodes "
        f"WHERE rollout_id = '{tree}' AND path::VARCHAR = '[0]'",
    )
    with_right_digest(home, "nodes", f"node_id = '{name}'")
    return f"The nodes of tree {tree} are not those"


def forged_row(home: Home) -> str:
    """Add a training row that has its digest."""
    added_row(home)
    with_right_digest(home, "preference_rows", "row_id = '0000111122223333'")
    return "Training row 0000111122223333 does not come from the trees"


def forged_tree(home: Home) -> str:
    """Add a tree that has its digest, and no run's inputs."""
    added_tree(home)
    with_right_digest(home, "trees", "rollout_id = '0000111122223333'")
    return "Tree 0000111122223333 has the policy, goal, seed, settings and retry of"


def forged_retry(home: Home) -> str:
    """Put another tree beside one, named rightly as its retry, and let the list name it instead."""
    row = home.warehouse().rows("SELECT * FROM current_trees WHERE iteration = '001' ORDER BY 1, 2, 3")[0]
    old = row["rollout_id"]
    new = rollout_id(row["policy_digest"], row["goal_id"], row["seed"], row["settings_digest"], 1)
    alter(
        home,
        f"INSERT INTO trees SELECT * REPLACE ('{new}' AS rollout_id, 1 AS retry) FROM trees "
        f"WHERE rollout_id = '{old}'; UPDATE rollouts SET rollout_id = '{new}' WHERE rollout_id = '{old}'",
    )
    with_right_digest(home, "trees", f"rollout_id = '{new}'")
    with_right_digest(home, "rollouts", f"rollout_id = '{new}'")
    return "rollouts/001/1: Its rows do not add up to its content"


def forged_generation(home: Home) -> str:
    """Let the content of a generation follow from an altered row: its digest tells."""
    forged_cost(home)
    alter(home, "UPDATE generations SET content = '0000111122223333' WHERE stage = 'adapter'")
    return "adapter/001/1: Its digest does not follow"


def settled(home: Home) -> None:
    """Let content and digest of every generation follow from the rows as they are now, as a forger of all would."""
    store = home.warehouse()
    for written in history(store).values():
        one, inputs = written.generation, {each.key: each.number for each in written.inputs}
        with store.connection() as connection:
            counts, content = generation_rows(connection, store.layout.stages[one.stage], one.scope, one.number)
            digest = generation_digest(connection, one.stage, one.scope, one.number, written.run_id, inputs, content)
            connection.execute(
                "UPDATE generations SET rows = ?, content = ?, digest = ? "
                "WHERE stage = ? AND scope = ? AND generation = ?",
                [json.dumps(counts), content, digest, one.stage, one.scope, one.number],
            )


def wholly_forged(home: Home, table: str, change: str, where: str = "iteration = '001'") -> None:
    """Alter rows, and let every digest above them follow."""
    alter(home, f"UPDATE {table} SET {change} WHERE {where}")
    with_right_digest(home, table, where)
    settled(home)


def forged_solvability(home: Home) -> str:
    name = one(home, "SELECT goal_id FROM solvability WHERE solvable ORDER BY 1")
    wholly_forged(home, "solvability", "solvable = false, reward = 0", f"goal_id = '{name}'")
    return f"What the oracle got of goal {name} has another solvable"


def forged_no_solvability(home: Home) -> str:
    name = one(home, "SELECT goal_id FROM solvability ORDER BY 1")
    alter(home, f"DELETE FROM solvability WHERE goal_id = '{name}'")
    settled(home)
    return f"What the oracle got of goal {name} is missing"


def forged_interval(home: Home) -> str:
    wholly_forged(home, "evaluations", "success_low = 0.999")
    return "evaluations evaluation/001/1 after/test: Its success_low is 0.999"


def forged_comparison(home: Home) -> str:
    wholly_forged(home, "comparisons", "low = 0.5, high = 0.9")
    return "comparisons evaluation/001/1 val/reward: Its low is 0.5"


def forged_limit(home: Home) -> str:
    wholly_forged(home, "drifts", "max_drift = 1000")
    return "Its max_drift is 1000.0, and that of its settings is"


def forged_refusal(home: Home) -> str:
    wholly_forged(home, "promotions", "promoted = false", "iteration = '002'")
    return "Its evaluation says that it is promoted, and it was refused"


def forged_path(home: Home) -> str:
    wholly_forged(home, "policies", "adapter_path = 'adapters/other'", "iteration = '002'")
    return "Its adapter_path is adapters/other, and that of its promotion is"


def forged_whole_tree(home: Home) -> str:
    name = one(home, "SELECT rollout_id FROM current_trees WHERE iteration = '001' AND reward = 1 ORDER BY 1")
    alter(home, f"UPDATE trees SET reward = 0.25 WHERE rollout_id = '{name}'")
    with_right_digest(home, "trees", f"rollout_id = '{name}'")
    alter(home, "UPDATE rollouts r SET tree_digest = t.digest FROM trees t WHERE t.rollout_id = r.rollout_id")
    with_right_digest(home, "rollouts", "true")
    settled(home)
    return f"Tree {name}: reward 0.25 is stored, 1.0 is right"


def left_out_generation(home: Home) -> str:
    alter(home, "DELETE FROM generations WHERE stage = 'policy' AND scope = '001' AND generation = 1")
    alter(home, "DELETE FROM policies WHERE iteration = '001' AND generation = 1")
    return "policy/001/2: Only 1 generations up to it are listed"


@pytest.mark.parametrize(
    "tamper",
    [
        tree_reward, message, call_result, adapter_byte, manifest, deleted_goal, source, entity,
        altered_entity, deleted_node, deleted_tree, deleted_conversation, label, row_node, training_row,
        added_row, episode_reward, score, run_settings, generation, old_made_current, none_current,
        added_tree, added_nodes, added_conversation, added_goal, added_label, forged_reward, forged_list,
        forged_cost, forged_node, forged_row, forged_tree, forged_retry, forged_generation,
        left_out_generation, forged_solvability, forged_no_solvability, forged_interval, forged_comparison,
        forged_limit, forged_refusal, forged_path, forged_whole_tree,
    ],
)  # fmt: skip
def test_whatever_was_altered_is_named(tamper: Callable[[Home], str], home: Home) -> None:
    name = tamper(home)
    assert name in said(audited(home))


def test_the_command_prints_what_is_broken_and_exits_with_1(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
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
    assert reasons and all("has replaced since" in one["message"] for one in reasons)
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
