"""The experiments' scripts: whose settings hold, which results count, and how they stop and go on."""

import importlib
import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from finished_home import copied, finished_home
from tiny_loop import play_with

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.harvest.rows import Row
from josh_pipeline.store.gc import find_waste
from josh_pipeline.store.home import Home

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return finished_home(tmp_path_factory.mktemp("finished"), rounds=1)


@pytest.fixture
def home(finished: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home that has since been run with other settings."""
    play_with(monkeypatch, lambda digest: 0.8)
    monkeypatch.syspath_prepend(EXPERIMENTS)
    home = copied(finished, tmp_path)
    home.remember_settings(home.settings("", {"seed": 9, "search": {"max_rounds": 1}}))
    return home


def script(name: str) -> ModuleType:
    return importlib.import_module(name)


def opened(home: Home, name: str) -> Any:
    return script("common").opened(home, name, "001", SilentProgress())


def test_a_stopped_experiment_prints_what_it_has_and_goes_on_from_there(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    searches = script("searches")
    measured = searches.Searches.measured
    tried: list[str] = []

    def stopping(self: Any, search: str) -> dict[str, Any]:
        tried.append(search)
        if len(tried) == 2:
            raise KeyboardInterrupt
        if len(tried) == 3:
            raise UserError("Nothing answers.")
        found: dict[str, Any] = measured(self, search)
        return found

    monkeypatch.setattr(searches.Searches, "measured", stopping)
    one, two = "beam_size: 1", "beam_size: 2, merge_twins: true, restarts: 1"
    command = ["--home", str(home.root), "--search", one, "--search", two]
    assert searches.main(command) == 130
    said = capsys.readouterr()
    assert "searches: stopped; the same command goes on from here." in said.err
    assert f"\n| {one} | 8 |" in said.out and f"Unfinished: {two}." in said.out
    assert searches.main(command) == 1
    said = capsys.readouterr()
    assert "searches: Nothing answers." in said.err and f"Unfinished: {two}." in said.out
    assert searches.main(command) == 0
    said = capsys.readouterr()
    assert f"\n| {one} | 8 |" in said.out and f"\n| {two} | 8 |" in said.out and "Unfinished" not in said.out
    assert tried == [one, two, two, two]


def test_an_experiment_runs_with_the_settings_that_its_iteration_was_searched_with(home: Home) -> None:
    settings = opened(home, "searches").settings
    assert (settings.seed, settings.search.max_rounds) == (0, 3)
    with pytest.raises(UserError, match="no rollouts of 007"):
        script("common").opened(home, "searches", "007", SilentProgress())


def test_lines_of_another_attempt_or_of_before_a_rerun_are_left_alone(home: Home) -> None:
    searches = script("searches")
    step = opened(home, "searches")
    first = searches.Searches(step, "001", ())
    first.keep({"search": "beam_size: 1"})
    assert list(searches.Searches(step, "001", ()).results) == ["beam_size: 1"]
    assert first.file == home.root / "experiments" / "searches-001.jsonl"
    line = json.loads(first.file.read_text())
    others = ({"rollouts": 7}, {"policy": "another"})
    with first.file.open("a") as sink:
        for beam, other in enumerate(others, start=2):
            sink.write(json.dumps(line | other | {"search": f"beam_size: {beam}"}) + "\n")
        sink.write('{"search": "beam_size: 4"}\n')
    assert list(searches.Searches(step, "001", ()).results) == ["beam_size: 1"]


@pytest.mark.parametrize(
    ("search", "why"),
    [("beams: 2", "there is no such setting"), ("beam_size: 0", "greater than or equal to 1"), ("a: {", "write it as")],
)
def test_a_search_that_cannot_be_is_refused_before_anything_is_searched(home: Home, search: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        script("searches").Searches(opened(home, "searches"), "001", [search])


def test_the_control_arm_is_as_large_as_the_golden_one_where_long_rows_are_left_out(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = script("arms")
    experiment = arms.Arms(opened(home, "arms"), "001")
    golden = {row.row_id for row in experiment.rows("sft")}
    drawn = experiment.rows("control")
    assert len(drawn) == len(golden) > 2
    long = {row.row_id for row in drawn[::4]}

    def length(row: Row) -> int:
        return 1_000_000 if row.row_id in long else 1

    monkeypatch.setattr(script("common"), "row_length", lambda step, base: length)
    fitting = experiment.rows("control")
    assert len(fitting) == len(golden)
    staying = [row.row_id for row in drawn if row.row_id not in long]
    assert [row.row_id for row in fitting[: len(staying)]] == staying, "the random order stays"


def test_the_iterations_own_candidate_is_scored_by_the_conversations_of_its_evaluation(home: Home) -> None:
    step = opened(home, "arms")

    def held() -> int:
        return int(step.warehouse.rows("SELECT count(*) AS n FROM episodes")[0]["n"])

    before = held()
    found = script("arms").Arms(step, "001").candidate("test")
    stored = step.warehouse.rows(
        "SELECT mean_reward FROM evaluations WHERE iteration = '001' AND side = 'after' AND role = 'test'"
    )
    assert found.mean_reward == pytest.approx(stored[0]["mean_reward"])
    assert held() == before


def test_a_method_that_the_iteration_was_not_trained_with_brings_what_it_needs(home: Home) -> None:
    step = opened(home, "arms")
    plain = step.settings.training.model_copy(update={"packed": False, "accumulation": 3})
    changed = replace(step, settings=step.settings.model_copy(update={"training": plain}))
    experiment = script("arms").Arms(changed, "001")
    kto, sft = experiment.settings("kto", 0.1), experiment.settings("sft", 0.1)
    assert (kto.method, kto.packed, kto.sft_weight, kto.accumulation) == ("kto", False, 0.0, 1)
    assert sft == plain.model_copy(update={"learning_rate": 0.1})
    assert experiment.settings("from_base", 0.1).start == "base"


def test_an_arm_is_trained_once_and_its_adapter_is_nothing_that_gc_removes(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = script("arms")
    command = ["--home", str(home.root), "--arms", "sft", "--rates", "1e-3"]
    waste = {file.path for file in find_waste(home).files}
    assert arms.main(command) == 0
    out = capsys.readouterr().out
    assert out.count("| sft | 0.001 |") == 2 and "Unfinished" not in out
    adapters = list((home.root / "experiments" / "adapters").iterdir())
    assert len(adapters) == 1
    assert {file.path for file in find_waste(home).files} == waste
    monkeypatch.delattr(script("common").Experiment, "trained")
    assert arms.main(command) == 0
    assert capsys.readouterr().out == out


def test_the_arm_of_all_weights_trains_no_adapter_and_that_of_the_policy_gradient_its_own_method(home: Home) -> None:
    experiment = script("arms").Arms(opened(home, "arms"), "001", ["full", "srpg"])
    assert {arm: len(rates) for arm, rates in experiment.rates.items()} == {"full": 3, "srpg": 3}
    full, gradient = (experiment.settings(arm, 1e-5) for arm in ("full", "srpg"))
    assert (full.method, full.lora, full.learning_rate) == ("sft", None, 1e-5)
    assert (gradient.method, gradient.scale) == ("srpg", "none")
    assert experiment.tried("full", 1e-5).rows == len(experiment.rows("full")) > 0
    with pytest.raises(UserError, match="without log-probabilities, which srpg needs"):
        experiment.rows("srpg")
