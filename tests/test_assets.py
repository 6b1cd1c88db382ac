"""The whole chain through Dagster, in this process, on a real instance and a real store."""

import json
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from tiny_loop import play_with, tiny_profile

from assets.launch import instance_of, run_job
from josh_pipeline.audit.chain import source_use
from josh_pipeline.audit.whole import audit_home
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.stages.policy import coming_iteration
from josh_pipeline.stages.registry import missing_preparation, open_home
from josh_pipeline.stages.rollouts import stored_trees
from josh_pipeline.stages.stage import Step
from josh_pipeline.store.home import Home


class Loop:
    """A home with an instance, and what the command line does with them."""

    def __init__(self, home: Home, instance: dg.DagsterInstance, profile: Path) -> None:
        self.home = home
        self.instance = instance
        self.settings = home.settings(str(profile))
        self.digest = home.keep_settings(self.settings)

    @property
    def step(self) -> Step:
        return Step(self.home, self.home.warehouse(), self.settings, "", SilentProgress())

    def run(self, job: str, partition: str | None = None, assets: list[str] | None = None) -> None:
        run_job(self.instance, job, self.digest, partition, assets)

    def prepare(self) -> list[str]:
        """Make what is missing; returns its assets."""
        missing = [stage.asset for stage in missing_preparation(self.step)]
        self.run("prepare", assets=missing)
        return missing

    def rows(self, sql: str) -> list[dict[str, object]]:
        return self.home.warehouse().rows(sql)


def open_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: object) -> Iterator[Loop]:
    monkeypatch.setenv("JOSH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", "")
    home = open_home(tmp_path / "home")
    with instance_of(home) as instance:
        loop = Loop(home, instance, tiny_profile(tmp_path, **changes))
        loop.prepare()
        yield loop


@pytest.fixture
def loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    yield from open_loop(tmp_path, monkeypatch)


def test_a_better_candidate_is_promoted_and_the_next_iteration_goes_on_from_it(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = str(loop.rows("SELECT base_digest FROM current_base_models")[0]["base_digest"])
    play_with(monkeypatch, lambda digest: 0.5 if digest == base else 0.9)
    assert coming_iteration(loop.step) == ("000", True)
    loop.run("baseline")
    assert coming_iteration(loop.step) == ("001", False)
    loop.run("iteration", "001")

    promotions = loop.rows("SELECT iteration, promoted, policy_digest FROM current_promotions ORDER BY 1")
    assert [row["promoted"] for row in promotions] == [True, True]
    candidate = promotions[1]["policy_digest"]
    assert coming_iteration(loop.step) == ("002", False)
    assert loop.instance.get_dynamic_partitions("iteration") == ["001"], "what has not begun is not missing"
    assert loop.rows("SELECT iteration FROM policies ORDER BY 1") == [{"iteration": "000"}, {"iteration": "001"}]
    loop.run("iteration", "002", ["policy"])
    begun = loop.rows("SELECT * FROM current_policies WHERE iteration = '002'")[0]
    assert (begun["policy_digest"], begun["predecessor"]) == (candidate, "001")

    exports = []
    for asset in ("base_evaluation", "promotion"):
        event = loop.instance.get_latest_materialization_event(dg.AssetKey(asset))
        assert event is not None and event.asset_materialization is not None
        exports.append(event.asset_materialization.metadata.get("export the model"))
    assert exports[0] is None, "nothing was trained yet"
    assert exports[1] is not None and f"josh export --model {candidate} " in str(exports[1].value)

    scores = loop.rows("SELECT * FROM current_evaluations WHERE role = 'test' ORDER BY iteration, side DESC")
    assert [(row["iteration"], row["side"], row["n"]) for row in scores] == [
        ("000", "after", 12), ("001", "before", 12), ("001", "after", 12),
    ]  # fmt: skip
    assert scores[0]["mean_reward"] == scores[1]["mean_reward"] < scores[2]["mean_reward"]
    assert loop.rows("SELECT count(*) AS n FROM episodes")[0]["n"] == 36, "the base is played once"

    trees = stored_trees(loop.home.warehouse(), "001")
    assert len(trees) == 8 and any(tree.reward == 1.0 for tree in trees)
    roles = loop.rows(
        "SELECT DISTINCT role FROM current_goals JOIN current_trees USING (goal_id) WHERE iteration = '001'"
    )
    assert roles == [{"role": "train"}]
    links = loop.rows("SELECT count(*) AS n FROM current_row_nodes r JOIN current_nodes n USING (node_id, rollout_id)")
    assert links[0]["n"] == loop.rows("SELECT count(*) AS n FROM current_row_nodes")[0]["n"] != 0
    training = loop.rows("SELECT * FROM current_trainings")[0]
    manifest = loop.home.absolute(str(training["adapter_path"])).with_suffix(".json")
    assert json.loads(manifest.read_text())["rows_digest"] == training["rows_digest"]


def test_a_worse_candidate_is_refused_and_the_next_attempt_plays_other_goals(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = str(loop.rows("SELECT base_digest FROM current_base_models")[0]["base_digest"])
    play_with(monkeypatch, lambda digest: 0.8 if digest == base else 0.0)
    loop.run("baseline")
    loop.run("iteration", "001")

    promotion = loop.rows("SELECT * FROM current_promotions WHERE iteration = '001'")[0]
    assert not promotion["promoted"] and "a regression" in str(promotion["reason"])
    assert loop.instance.get_dynamic_partitions("iteration") == ["001"]
    assert coming_iteration(loop.step) == ("001", False)
    first = {tree.goal_id for tree in stored_trees(loop.home.warehouse(), "001")}

    play_with(monkeypatch, lambda digest: 0.8)
    loop.run("iteration", "001")
    policy = loop.rows("SELECT attempt FROM current_policies WHERE iteration = '001'")[0]
    assert policy == {"attempt": 2}
    assert not first & {tree.goal_id for tree in stored_trees(loop.home.warehouse(), "001")}
    assert loop.rows("SELECT promoted FROM current_promotions WHERE iteration = '001'")[0]["promoted"]


def test_a_rerun_of_rollouts_plays_no_tree_again_and_supersedes_the_generation(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    play_with(monkeypatch, lambda digest: 0.8)
    loop.run("baseline")
    loop.run("iteration", "001", ["policy", "beam_rollouts"])
    before = loop.rows("SELECT rollout_id, run_id FROM trees ORDER BY ALL")
    loop.run("iteration", "001", ["beam_rollouts"])
    assert loop.rows("SELECT rollout_id, run_id FROM trees ORDER BY ALL") == before
    generation = loop.rows("SELECT DISTINCT generation FROM current_rollouts WHERE iteration = '001'")
    assert generation == [{"generation": 2}]


def test_a_spent_budget_leaves_an_iteration_with_what_it_has_and_a_larger_one_goes_on(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_budget(tokens: int) -> None:
        budget = loop.settings.budget.model_copy(update={"max_tokens": tokens})
        few = loop.settings.search.model_copy(update={"in_flight": 2})
        loop.settings = loop.settings.model_copy(update={"budget": budget, "search": few})
        loop.digest = loop.home.keep_settings(loop.settings)
        loop.run("iteration", "001", ["policy", "beam_rollouts"])

    play_with(monkeypatch, lambda digest: 0.3)
    loop.run("baseline")
    with_budget(10_000)
    spent = "sum(prompt_tokens + completion_tokens)"
    first = loop.rows(f"SELECT count(*) AS n, {spent} AS tokens FROM current_trees")[0]
    assert 0 < first["n"] < 8 and first["tokens"] >= 10_000  # type: ignore[operator]
    with_budget(10_000)
    again = loop.rows(f"SELECT count(*) AS n, {spent} AS tokens FROM current_trees")[0]
    assert again == first, "what was cut spent its share too, so nothing is left"
    kept = loop.rows("SELECT rollout_id, run_id FROM trees WHERE failure IS NULL ORDER BY 1")
    with_budget(10_000_000)
    assert loop.rows("SELECT count(*) AS n, count(failure) AS cut FROM current_trees") == [{"n": 8, "cut": 0}]
    after = loop.rows("SELECT rollout_id, run_id FROM trees ORDER BY 1")
    assert all(tree in after for tree in kept), "a finished tree is not searched again"


def test_an_iteration_that_comes_too_early_says_what_to_materialize_first(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    play_with(monkeypatch, lambda digest: 0.8)
    with pytest.raises(UserError, match="Materialize base_evaluation before iteration 001"):
        loop.run("iteration", "001")
    loop.run("baseline")
    with pytest.raises(UserError, match="Materialize iteration 002 before iteration 003"):
        loop.run("iteration", "003")
    with pytest.raises(UserError, match="'2' names no iteration: iterations are numbers of three digits, like 002"):
        loop.run("iteration", "2")
    with pytest.raises(UserError, match="holds the evaluation of the base only"):
        loop.run("iteration", "000", ["beam_rollouts"])


def test_a_harvest_without_a_row_stops_the_run_and_says_what_to_do(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    play_with(monkeypatch, lambda digest: 0.0)
    loop.run("baseline")
    with pytest.raises(UserError, match=r"rows_sound failed.*Raise search\.goals"):
        loop.run("iteration", "001")
    assert not loop.rows("SELECT * FROM trainings")


def test_an_altered_reward_stops_the_run_at_the_labels(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    play_with(monkeypatch, lambda digest: 0.8)
    loop.run("baseline")
    loop.run("iteration", "001", ["policy", "beam_rollouts"])
    with loop.home.warehouse().connection() as connection:
        connection.execute("UPDATE trees SET reward = 0.25 WHERE reward = 1.0")
    with pytest.raises(UserError, match="labels_agree"):
        loop.run("iteration", "001", ["reward_labels", "preference_pairs"])
    assert not loop.rows("SELECT * FROM preference_rows")


def test_replayed_rows_train_the_next_round_too_and_the_audit_follows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for loop in open_loop(tmp_path, monkeypatch, harvest={"mode": "partial", "replay": 1}):
        play_with(monkeypatch, lambda digest: 0.8)
        loop.run("baseline")
        for iteration in ("001", "002"):
            loop.run("iteration", iteration)
        own = loop.rows("SELECT iteration, count(*) AS n FROM current_preference_rows GROUP BY 1 ORDER BY 1")
        trained = loop.rows("SELECT rows FROM current_trainings ORDER BY iteration")
        assert trained[0]["rows"] == own[0]["n"]
        assert trained[1]["rows"] == own[0]["n"] + own[1]["n"]  # type: ignore[operator]
        dialogue = loop.rows("SELECT source_id FROM row_lineage WHERE iteration = '001' LIMIT 1")[0]
        uses = source_use(loop.home.warehouse(), str(dialogue["source_id"])).adapters
        assert {(use["iteration"], use["through"]) for use in uses} >= {("001", "rows"), ("002", "rows")}
        audit, _, _ = audit_home(loop.home, None, SilentProgress())
        assert audit.sound, audit.findings


def test_settings_of_another_corpus_start_a_line_of_their_own_in_the_same_home(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    play_with(monkeypatch, lambda digest: 0.8)
    loop.run("baseline")
    first = loop.settings, loop.digest
    other = loop.home.settings(loop.digest, {"environment": {"corpus": {"sample_dialogues": 100}}})
    loop.settings, loop.digest = other, loop.home.keep_settings(other)
    assert loop.prepare() == ["multiwoz_dialogues", "toolwoz_goals"]
    assert coming_iteration(loop.step) == ("001", True), "the first line has not begun 001"
    loop.run("baseline")
    loop.run("baseline")
    lines = loop.rows("SELECT iteration, generation, predecessor FROM current_policies ORDER BY 1")
    assert [(row["iteration"], row["generation"], row["predecessor"]) for row in lines] == [
        ("000", 1, None), ("001", 2, None),
    ], "another run of the asset evaluates the same base again"  # fmt: skip
    loop.settings, loop.digest = first
    assert coming_iteration(loop.step) == ("002", False)


def test_a_rerun_whose_policy_changed_never_mixes_old_rows_in(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    play_with(monkeypatch, lambda digest: 0.8)
    harvest = ["policy", "beam_rollouts", "reward_labels", "preference_pairs"]
    loop.run("baseline")
    loop.run("iteration", "001")
    loop.run("iteration", "002", harvest)
    old = policies_of_rows(loop)

    other = loop.settings.training.model_copy(update={"learning_rate": 1e-2})
    loop.settings = loop.settings.model_copy(update={"training": other})
    loop.digest = loop.home.keep_settings(loop.settings)
    loop.run("iteration", "001", ["lora_adapter", "benchmark_evaluation", "promotion"])
    assert policies_of_rows(loop) == old, "a rerun of 001 leaves the rows of 002 as they were, but stale"
    reported = loop.instance.get_latest_materialization_event(dg.AssetKey("policy"))
    assert reported is not None and reported.asset_materialization is not None
    assert reported.asset_materialization.partition == "002"
    loop.run("iteration", "002", harvest)
    (new,) = policies_of_rows(loop)
    assert {new} == {row["policy_digest"] for row in loop.rows(
        "SELECT policy_digest FROM current_promotions WHERE iteration = '001'"
    )}  # fmt: skip
    assert new not in old
    trees = loop.rows("SELECT DISTINCT policy_digest FROM current_trees WHERE iteration = '002'")
    assert trees == [{"policy_digest": new}]
    kept = loop.rows("SELECT DISTINCT policy_digest FROM preference_rows WHERE iteration = '002'")
    assert len(kept) == 2, "what was superseded stays readable"


def policies_of_rows(loop: Loop) -> set[object]:
    """The policies whose turns are training rows of iteration 002."""
    rows = loop.rows(
        "SELECT DISTINCT t.policy_digest FROM current_row_nodes n JOIN trees t USING (rollout_id) "
        "WHERE iteration = '002'"
    )
    return {row["policy_digest"] for row in rows}
