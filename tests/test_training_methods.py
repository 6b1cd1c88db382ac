"""A training method of one's own is named in the settings, and harvested and trained like a built-in one."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import ScriptedPolicy, choosing, grow
from own_methods import LastMessage, UnlikelihoodSettings
from test_training import LORA
from tiny_model import tiny_model
from transformers import AutoModelForCausalLM

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.harvest.harvest import counted, harvest, without_long
from josh_pipeline.harvest.rows import Row
from josh_pipeline.policies.chat import ChatRenderer
from josh_pipeline.policies.weights import load_merged
from josh_pipeline.settings import load_settings
from josh_pipeline.settings.training import METHODS, TrainingBase
from josh_pipeline.training.job import JOBS, TrainingJob
from josh_pipeline.training.methods import Method, method_class, method_of
from josh_pipeline.training.run import train
from josh_pipeline.training.tokens import IGNORED, RowTokenizer

FILE = Path(__file__).with_name("own_methods.py")
ANSWERS = choosing("GET a", "GET b", "GET a b", "GET x", "hello", "well", "hm")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tiny") / "model")


def settings_of(name: str, **values: Any) -> TrainingBase:
    given = {"method": f"{FILE}:{name}", "processes": 0, "lora": LORA.model_dump(), "max_tokens": 8192}
    return load_settings("quickstart", {"training": given | values}).training


def harvested(settings: TrainingBase, base: Path) -> tuple[Row, ...]:
    trees = [grow(ScriptedPolicy(ANSWERS), goal=f"goal {seed}", seed=seed, max_rounds=4) for seed in range(6)]
    kind = method_of(settings).kind
    found = harvest(trees, settings.method, kind, "partial", frozenset())
    count = RowTokenizer(ChatRenderer(base)).length
    return without_long(counted(found, count), settings.max_tokens).rows


@pytest.mark.parametrize("name", ["LastMessage", "Unlikelihood"])
def test_a_method_that_a_file_names_is_harvested_for_and_trains(name: str, base: Path, tmp_path: Path):
    settings = settings_of(name, epochs=3, learning_rate=0.02)
    rows = harvested(settings, base)
    assert rows and {row.method for row in rows} == {settings.method}
    result = train(rows, base, None, tmp_path, settings, 0, SilentProgress(), "none")
    steps = len(result.curve) // 3
    first, last = result.curve[:steps], result.curve[-steps:]
    assert sum(point["loss"] for point in last) < sum(point["loss"] for point in first)
    assert ("unlikely" in result.curve[0]) == (name == "Unlikelihood")
    assert result.record["method"] == settings.method and result.rows == len(rows)


def test_it_trains_the_same_in_a_process_of_its_own(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FILE.parents[1]), os.environ.get("PYTHONPATH", "")]))
    settings = settings_of("LastMessage", epochs=1, processes=1, threads=1)
    rows = harvested(settings, base)
    theirs = train(rows, base, None, tmp_path / "theirs", settings, 0, SilentProgress(), "none")
    here = settings.model_copy(update={"processes": 0})
    ours = train(rows, base, None, tmp_path / "ours", here, 0, SilentProgress(), "none")
    assert theirs.digest == ours.digest


def test_only_what_it_chose_carries_loss(base: Path):
    settings = settings_of("LastMessage")
    renderer = ChatRenderer(base)
    for row in harvested(settings, base):
        token_row = RowTokenizer(renderer).tokens(row)
        (example,) = method_of(settings).examples([token_row])
        last = [one.message for one in row.sides[0].said if one.train][-1]
        assert renderer.decode([label for label in example.labels if label != IGNORED]) == last.content


def test_its_settings_are_its_own_and_their_faults_are_told():
    assert settings_of("Unlikelihood", pull=2.5).pull == 2.5  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"training\.pull: Input should be a valid number"):
        settings_of("Unlikelihood", pull="much")
    with pytest.raises(UserError, match=r"training\.epochz: there is no such setting"):
        settings_of("LastMessage", epochz=3)


def test_settings_survive_json_and_name_their_method(base: Path, tmp_path: Path):
    settings = settings_of("Unlikelihood", pull=2.5)
    job = TrainingJob("task", harvested(settings, base), base, None, settings, 7, "none")
    back = JOBS.validate_json(JOBS.dump_json(job.absolute()))
    assert back == job and back.digest == job.digest
    assert type(back.settings).__name__ == UnlikelihoodSettings.__name__


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nothing", "There is no training method 'nothing': use one of sft, kto, dpo, srpg, path/to/file.py:Class"),
        (f"{FILE}:Nothing", "has no class 'Nothing': name the class of the training method"),
        ("no_file.py:Method", "There is no file no_file.py"),
        ("josh_pipeline.settings:Settings", "Settings is no training method: name a class that subclasses"),
    ],
)
def test_a_method_that_is_none_is_one_sentence(name: str, told: str):
    with pytest.raises(UserError, match=told.replace("(", r"\(")):
        load_settings("quickstart", {"training": {"method": name}})


def test_without_a_trainer_of_trl_plain_rows_are_refused_with_what_to_do(base: Path, tmp_path: Path):
    settings = settings_of("LastMessage", packed=False)
    with pytest.raises(UserError, match=r"set training\.packed to true"):
        train(harvested(settings, base), base, None, tmp_path, settings, 0, SilentProgress(), "none")


def test_each_built_in_method_says_what_it_takes():
    kinds = {name: method_class(name).kind for name in METHODS}
    assert kinds == {"sft": "conversations", "kto": "messages", "dpo": "pairs", "srpg": "samples"}
    for name in METHODS:
        assert method_class(name).Settings.model_fields["method"].default == name
    assert issubclass(LastMessage, Method)


def test_the_unlikelihood_of_an_undesirable_message_rises(base: Path, tmp_path: Path):
    settings = settings_of("Unlikelihood", epochs=4, learning_rate=0.03)
    rows = harvested(settings, base)
    result = train(rows, base, None, tmp_path, settings, 0, SilentProgress(), "none")
    before, after = AutoModelForCausalLM.from_pretrained(base), load_merged(base, result.adapter).float()
    tokenizer = RowTokenizer(ChatRenderer(base))

    def margin(model: Any) -> float:
        """How much likelier a token of a desirable message is than one of an undesirable message."""
        found: dict[str, list[float]] = {"desirable": [], "undesirable": []}
        for row in rows:
            (example,) = tokenizer.tokens(row).examples
            labels = torch.tensor([[IGNORED, *example.labels[1:]]])
            with torch.no_grad():
                loss = model(input_ids=torch.tensor([example.input_ids]), labels=labels).loss
            found[row.label].append(-float(loss))
        return sum(found["desirable"]) / len(found["desirable"]) - sum(found["undesirable"]) / len(found["undesirable"])

    assert margin(after) > margin(before)
