"""``josh audit ROW`` and ``josh audit --source``: the chain of one row, both ways."""

import json
import re
from pathlib import Path

import pytest
from finished_home import SFT, copied, run_stages, step_of
from tampering import alter
from tiny_loop import tiny_profile

from josh_pipeline.audit.chain import RowAudit, audit_row, source_use
from josh_pipeline.audit.whole import audit_home
from josh_pipeline.cli.main import main
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.settings.training import KtoSettings
from josh_pipeline.stages.registry import BY_NAME, open_home, prepare
from josh_pipeline.store.home import Home


@pytest.fixture
def home(finished: Home, tmp_path: Path) -> Home:
    return copied(finished, tmp_path)


def row_of(home: Home, iteration: str = "001") -> str:
    rows = home.warehouse().rows(
        "SELECT row_id FROM current_preference_rows WHERE iteration = ? ORDER BY position", [iteration]
    )
    return str(rows[0]["row_id"])


def kinds(found: RowAudit) -> list[str]:
    return list(dict.fromkeys(link.kind for link in found.links))


def test_the_chain_of_a_row_goes_down_to_the_corpus_and_up_to_the_promotion(finished: Home) -> None:
    found = audit_row(finished, row_of(finished)[:12])
    assert found.audit.sound
    assert kinds(found) == [
        "row", "node", "tree", "goal", "source", "corpus", "policy", "model", "run", "adapter",
        "evaluation", "promotion", "generation",
    ]  # fmt: skip
    facts = {link.kind: link.facts for link in found.links}
    store = finished.warehouse()
    tree = store.rows("SELECT * FROM trees WHERE rollout_id = ?", [found.record["rollout_id"]])[0]
    assert facts["tree"]["seed"] == tree["seed"] and facts["tree"]["policy"] == tree["policy_digest"]
    goal = store.rows("SELECT * FROM goals WHERE goal_id = ?", [tree["goal_id"]])[0]
    assert facts["goal"]["source"] == goal["source_id"]
    run = store.rows("SELECT * FROM runs WHERE run_id = 'run-1'")[0]
    assert facts["run"]["settings"] == run["settings_digest"]
    assert facts["run"]["git_commit"] == (run["git_commit"] or "none: not a checkout")
    trained = store.rows("SELECT * FROM trainings WHERE iteration = '001'")[0]
    assert facts["adapter"]["candidate"] == trained["policy_digest"]
    assert facts["promotion"]["promoted"] is True
    digests = {link.name: link.facts["digest"] for link in found.links if link.kind == "generation"}
    stored = store.rows("SELECT stage || '/' || scope || '/' || generation AS name, digest FROM generations")
    assert digests.items() <= {row["name"]: row["digest"] for row in stored}.items()


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("UPDATE trees SET reward = 0.5 WHERE rollout_id = '{rollout_id}'", "tree"),
        ("UPDATE nodes SET messages = '[]' WHERE rollout_id = '{rollout_id}' AND round = 1", "tree"),
        ("DELETE FROM trees WHERE rollout_id = '{rollout_id}'", "tree"),
        ("DELETE FROM goals WHERE goal_id = '{goal_id}'", "goal"),
        ("UPDATE preference_rows SET policy_digest = 'x' WHERE row_id = '{row_id}'", "row"),
        ("UPDATE runs SET git_commit = 'another' WHERE run_id = 'run-1'", "run"),
        ("UPDATE generations SET run_id = 'run-2' WHERE stage = 'goals'", "generation"),
    ],
)
def test_the_link_that_does_not_hold_is_named(home: Home, sql: str, kind: str) -> None:
    row = row_of(home)
    record = home.warehouse().rows("SELECT * FROM preference_rows WHERE row_id = ?", [row])[0]
    alter(home, sql.format(**record))
    found = audit_row(home, row)
    assert not found.audit.sound
    assert kind in {link.kind for link in found.links if any(f.status == "broken" for f in link.findings)}


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE evaluations SET mean_reward = 0.999 WHERE iteration <> '001'",
        "UPDATE policies SET model = 'other' WHERE iteration <> '001' OR generation = 1",
        "UPDATE goals SET split = 'other' WHERE generation = 2",
    ],
)
def test_a_row_of_the_same_key_that_another_generation_wrote_says_nothing_of_the_chain(home: Home, sql: str) -> None:
    BY_NAME["goals"].run(step_of(home, home.settings(), "again"), None)
    alter(home, sql)
    assert not audit_home(home, None, SilentProgress())[0].sound
    assert audit_row(home, row_of(home)).audit.sound


def test_a_row_that_was_harvested_twice_answers_as_the_one_that_its_adapter_saw(home: Home) -> None:
    run_stages(home, home.settings(), "again", "001", "preferences")
    alter(home, "UPDATE preference_rows SET policy_digest = 'x' WHERE iteration = '001' AND generation = 2")
    found = audit_row(home, row_of(home))
    assert found.audit.sound and found.harvested.number == 1 and "adapter" in kinds(found)


def test_an_adapter_that_was_altered_shows_in_the_chain_of_its_rows(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = home.warehouse().rows("SELECT adapter_digest FROM trainings WHERE iteration = '001'")[0]
    config = home.adapters / adapter["adapter_digest"] / "adapter_config.json"
    config.write_text(config.read_text() + "\n")
    assert main(["audit", row_of(home), "--home", str(home.root), "--json"]) == 1
    links = json.loads(capsys.readouterr().out)["links"]
    assert [link["kind"] for link in links if link["status"] == "broken"] == ["adapter"]


def test_an_unknown_row_is_refused_with_what_to_give(home: Home) -> None:
    with pytest.raises(UserError, match="No training row begins with 'ffffffffffff'"):
        audit_row(home, "ffffffffffff")


def test_a_row_s_page_is_one_file_a_reviewer_can_read_offline(home: Home, tmp_path: Path) -> None:
    kto = home.settings().model_copy(update={"training": KtoSettings()})
    run_stages(home, kto, "kto", "001", "preferences")
    rows = home.warehouse().rows(
        "SELECT row_id, label FROM current_preference_rows WHERE iteration = '001' "
        "QUALIFY row_number() OVER (PARTITION BY label ORDER BY position) = 1"
    )
    assert {row["label"] for row in rows} == {"desirable", "undesirable"}
    for row in rows:
        page = tmp_path / f"{row['row_id']}.html"
        assert main(["audit", row["row_id"], "--home", str(home.root), "--html", str(page)]) == 0
        text = page.read_text()
        found = audit_row(home, row["row_id"])
        assert found.goal is not None and found.goal.message[0].split(".")[0] in text
        assert f"KTO: {row['label']}" in text
        assert "Let me think about it." in text, "a sibling"
        assert all(link.name in text for link in found.links)
        assert not re.search(r'(src|href)="http|url\(|@import', text), "it needs no network"
        outlined = re.findall(r'class="node [a-z ]*own" id="box-(\w+)"', text)
        assert set(outlined) == {node.node_id for _, node in found.nodes}, "the row's turns, in the tree"


def test_a_page_of_a_broken_row_says_so(home: Home, tmp_path: Path) -> None:
    row = row_of(home)
    alter(home, "UPDATE trees SET reward = 0.5")
    page = tmp_path / "row.html"
    assert main(["audit", row, "--home", str(home.root), "--html", str(page)]) == 1
    assert "was altered since it was written" in page.read_text()


def test_a_source_is_followed_to_the_adapters_and_evaluations_that_saw_it(
    finished: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    store = finished.warehouse()
    trained = store.rows("SELECT DISTINCT source_id FROM row_lineage WHERE iteration = '001' ORDER BY 1")[0]
    use = source_use(store, trained["source_id"])
    adapters = store.rows("SELECT adapter_digest, iteration FROM trainings ORDER BY iteration")
    assert use.adapters[0]["adapter_digest"] == adapters[0]["adapter_digest"]
    assert use.adapters[0]["through"] == "rows" and use.adapters[0]["rows"] >= 1

    tested = store.rows("SELECT source_id FROM goals WHERE role = 'test' AND kind = 'part'")
    played = [source_use(store, row["source_id"]) for row in tested]
    assert not any(use.adapters for use in played), "no adapter was trained on a test goal"
    used = next(use for use in played if use.evaluations)
    assert len(used.evaluations) == 5, "base in 000, before and after in 001 and 002"

    name = f"{trained['source_id']}.json"
    assert main(["audit", "--source", name, "--home", str(finished.root)]) == 0
    assert adapters[0]["adapter_digest"] in capsys.readouterr().out
    with pytest.raises(UserError, match="No goal of this home comes from 'NONE'"):
        source_use(store, "NONE")


def test_a_search_that_earned_nothing_saw_its_source(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    store = home.warehouse()
    unused = "SELECT goal_id, source_id FROM goals WHERE role = 'val' ORDER BY goal_id LIMIT 1"
    goal = store.rows(unused)[0]
    poor = f"'{goal['goal_id']}' AS goal_id, 0 AS reward"
    for name in ("listed", "left"):
        alter(home, f"INSERT INTO trees SELECT * REPLACE ('{name}' AS rollout_id, {poor}) FROM trees LIMIT 1")
    alter(home, "INSERT INTO rollouts SELECT * REPLACE ('listed' AS rollout_id) FROM current_rollouts LIMIT 1")
    iteration = store.rows("SELECT iteration FROM rollouts WHERE rollout_id = 'listed'")[0]["iteration"]
    assert [one["rollout_id"] for one in source_use(store, goal["source_id"]).searches] == ["listed", "left"]
    assert main(["audit", "--dialogue", goal["source_id"], "--home", str(home.root)]) == 0
    out = capsys.readouterr().out
    assert "Adapters that were trained on it: 0" in out and "Searches of it: 2" in out
    assert f"  listed  iteration {iteration}: policy " in out and "reward 0.000, 0 rows" in out
    assert "  left  no iteration: its step did not end: policy " in out


def test_a_base_saw_what_it_was_demonstrated_before_anything_is_trained_on_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = open_home(tmp_path / "home")
    taught = {"conversations": 2, "epochs": 1}
    settings = home.settings(str(tiny_profile(tmp_path, cold_start=taught, training=SFT)))
    prepare(step_of(home, settings, "prepare"))
    store = home.warehouse()
    shown = store.rows("SELECT source_id FROM demonstrations ORDER BY position")[0]["source_id"]
    base = store.rows("SELECT base_digest, scope FROM base_models")[0]
    assert main(["audit", "--dialogue", shown, "--home", str(home.root)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "Adapters that were trained on it: 0" in out and "Bases that it was demonstrated to: 1" in out
    assert f"  {base['base_digest']}  cold_start {base['scope']} generation 1 (current)" in out


def test_an_adapter_of_a_replaced_harvest_is_superseded_in_the_uses_of_a_source(home: Home) -> None:
    store = home.warehouse()
    name = store.rows("SELECT source_id FROM row_lineage WHERE iteration = '001' ORDER BY 1")[0]["source_id"]
    assert {one["status"] for one in source_use(store, name).adapters} == {"current"}
    run_stages(home, home.settings(), "again", "001", "preferences")
    assert {one["status"] for one in source_use(store, name).adapters} == {"superseded"}
