"""Every layout that MultiWOZ is released in gives the same corpus; damaged ones give one sentence."""

import json
import os
import shutil
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from corpus_layouts import write_corpus, zip_folder
from toolwoz_town import environment_of, through_the_store

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.progress import TaskState, ThrottledProgress
from josh_pipeline.environments.toolwoz.corpus import Corpus
from josh_pipeline.environments.toolwoz.reader import read_corpus
from josh_pipeline.environments.toolwoz.sample import sample_corpus

SAMPLE = sample_corpus(60, 0)


@pytest.fixture
def official(tmp_path: Path) -> Path:
    folder = tmp_path / "official"
    write_corpus(SAMPLE, folder)
    return folder


def load(path: Path) -> Corpus:
    return read_corpus(str(path), path.parent / "cache")


def convlab_folder(folder: Path, splits: tuple[str, ...] = ("train", "val", "test")) -> Path:
    """The sample in ConvLab's layout: one zip a split beside the databases."""
    write_corpus(SAMPLE, folder)
    for name in ("data.json", "valListFile", "testListFile"):
        (folder / name).unlink()
    for split in splits:
        records = {d.dialogue_id: {"goal": d.goal, "log": d.log} for d in SAMPLE.dialogues if d.split == split}
        with zipfile.ZipFile(folder / f"{split}.json.zip", "w") as archive:
            archive.writestr(f"{split}.json", json.dumps(records))
    return folder


def message_of(path: Path) -> str:
    with pytest.raises(UserError) as fault:
        load(path)
    text = str(fault.value)
    assert text.endswith(".") and "\n" not in text
    return text


def test_a_written_corpus_reads_back_as_it_was(official: Path) -> None:
    corpus = load(official)
    assert corpus.dialogues == SAMPLE.dialogues
    assert corpus.databases == SAMPLE.databases
    assert (corpus.name, corpus.source) == ("official", str(official))


def test_a_zip_is_the_same_corpus_as_its_folder(official: Path, tmp_path: Path) -> None:
    flat = load(zip_folder(official, tmp_path / "MultiWOZ_2.1.zip"))
    nested = load(zip_folder(official, tmp_path / "nested.zip", "MULTIWOZ2.4/"))
    assert flat.digest == nested.digest == load(official).digest
    assert flat.dialogues == nested.dialogues == SAMPLE.dialogues
    assert flat.name == "MultiWOZ_2.1"


def test_a_folder_one_level_down_is_found(official: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    shutil.copytree(official, outer / "MultiWOZ_2.1")
    assert load(outer).digest == load(official).digest


def test_macos_leftovers_and_unrelated_files_do_not_count(official: Path, tmp_path: Path) -> None:
    digest = load(official).digest
    (official / "ontology.json").write_text("{")
    (official / "police_db.json").write_text("[]")
    target = zip_folder(official, tmp_path / "x.zip", "M/")
    with zipfile.ZipFile(target, "a") as archive:
        archive.writestr("__MACOSX/M/data.json", "junk")
        archive.writestr("__MACOSX/M/._data.json", "junk")
    assert load(target).digest == digest


@pytest.mark.parametrize("suffix", ["", ".txt", ".json"])
@pytest.mark.parametrize("with_json", [True, False])
@pytest.mark.parametrize("as_json_list", [True, False])
def test_split_lists_are_read_in_every_variant(
    official: Path, suffix: str, with_json: bool, as_json_list: bool
) -> None:
    for name, split in (("valListFile", "val"), ("testListFile", "test")):
        (official / name).unlink()
        ids = [d.dialogue_id + (".json" if with_json else "") for d in SAMPLE.dialogues if d.split == split]
        text = json.dumps(ids) if as_json_list else "\r\n".join(ids)
        (official / (name + suffix)).write_text(text)
    assert load(official).dialogues == SAMPLE.dialogues


def test_convlab_splits_are_the_same_dialogues(tmp_path: Path) -> None:
    folder = convlab_folder(tmp_path / "convlab")
    corpus = load(folder)
    assert corpus.dialogues == SAMPLE.dialogues
    zipped = load(zip_folder(folder, tmp_path / "all.zip", "multiwoz/"))
    assert (zipped.digest, zipped.dialogues) == (corpus.digest, corpus.dialogues)


def test_a_corpus_may_hold_one_split_only(tmp_path: Path) -> None:
    corpus = load(convlab_folder(tmp_path / "val-only", ("val",)))
    assert {d.split for d in corpus.dialogues} == {"val"}
    assert corpus.dialogues == tuple(d for d in SAMPLE.dialogues if d.split == "val")


def test_unpacked_convlab_splits_are_the_same_corpus(tmp_path: Path) -> None:
    folder = convlab_folder(tmp_path / "convlab")
    digest = load(folder).digest
    for split in ("train", "val", "test"):
        zipped = folder / f"{split}.json.zip"
        with zipfile.ZipFile(zipped) as archive:
            archive.extractall(folder)
        zipped.unlink()
    assert load(folder).digest == digest


def test_the_digest_follows_the_content(official: Path) -> None:
    before = load(official).digest
    hotels = json.loads((official / "hotel_db.json").read_text())
    hotels[0]["stars"] = "5"
    (official / "hotel_db.json").write_text(json.dumps(hotels))
    assert load(official).digest != before


def test_odd_records_are_kept_as_empty_ones(official: Path) -> None:
    records = json.loads((official / "data.json").read_text())
    odd = {"A1": None, "A2": {}, "A3": {"goal": [], "log": "no"}, "A4": {"goal": {"hotel": 3}, "log": [7]}}
    (official / "data.json").write_text(json.dumps(odd | records))
    corpus = load(official)
    kept = {d.dialogue_id: d for d in corpus.dialogues}
    assert len(kept) == len(SAMPLE.dialogues) + 4
    assert [(dict(kept[k].goal), kept[k].log) for k in odd] == [({}, ()), ({}, ()), ({}, ()), ({"hotel": 3}, ({},))]
    assert through_the_store(corpus) == corpus


def test_a_record_that_nests_too_deep_is_read_and_written_without_its_depths(official: Path) -> None:
    deep = '{"a": ' * 900 + "1" + "}" * 900
    records = (official / "data.json").read_text()
    (official / "data.json").write_text(f'{{"DEEP": {{"goal": {{}}, "log": [{deep}]}}, {records[1:]}')
    corpus = load(official)
    (record,) = (d for d in corpus.dialogues if d.dialogue_id == "DEEP")
    assert 50 < json.dumps(record.log).count("{") < 70
    assert len(corpus.dialogues) == len(SAMPLE.dialogues) + 1
    assert through_the_store(corpus) == corpus


def test_missing_databases_are_all_named(official: Path) -> None:
    (official / "hotel_db.json").unlink()
    (official / "train_db.json").unlink()
    assert "lacks hotel_db.json, train_db.json: put the databases" in message_of(official)


def test_missing_lists_are_named(official: Path) -> None:
    (official / "testListFile").unlink()
    assert "lacks testListFile" in message_of(official)


def test_lists_of_another_release_are_refused(official: Path) -> None:
    for name in ("valListFile", "testListFile"):
        (official / name).write_text("X1\nX2\n")
    assert "lists that name none of its dialogues" in message_of(official)


@pytest.mark.parametrize("name", ["data.json", "restaurant_db.json"])
@pytest.mark.parametrize("content", [b'{"a": ', b"\xff\xfe\x00", b""])
def test_bad_json_names_its_file(official: Path, name: str, content: bytes) -> None:
    (official / name).write_bytes(content)
    assert f"{name} in {official} is not valid JSON" in message_of(official)


@pytest.mark.parametrize("content", ["{}", "[]", "[1]", "null"])
def test_a_database_that_is_no_table_is_refused(official: Path, content: str) -> None:
    (official / "train_db.json").write_text(content)
    assert "train_db.json" in message_of(official)


def test_multiwoz_2_2_is_refused_for_its_missing_goals(official: Path, tmp_path: Path) -> None:
    turns_only = [{"dialogue_id": "PMUL1.json", "services": ["hotel"], "turns": []}]
    (official / "data.json").write_text(json.dumps(turns_only))
    assert "carries no goals" in message_of(official)
    folder = tmp_path / "MultiWOZ_2.2"
    (folder / "dev").mkdir(parents=True)
    (folder / "dev" / "dialogues_001.json").write_text(json.dumps(turns_only))
    assert "carries no goals: give MultiWOZ 2.0, 2.1, 2.3 or 2.4" in message_of(folder)


def test_an_empty_folder_says_what_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds neither data.json nor train.json.zip" in message_of(tmp_path / "empty")


def test_a_path_that_is_not_there_says_so(tmp_path: Path) -> None:
    assert "There is no corpus at" in message_of(tmp_path / "nowhere")


def test_a_file_that_is_no_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.zip").write_text("<html>")
    assert "is not a zip file" in message_of(tmp_path / "page.zip")


def test_a_damaged_zip_is_refused(official: Path, tmp_path: Path) -> None:
    target = zip_folder(official, tmp_path / "x.zip")
    data = bytearray(target.read_bytes())
    middle = len(data) // 3
    data[middle : middle + 200] = bytes(200)
    target.write_bytes(data)
    assert "fetch the archive again" in message_of(target)


def test_a_damaged_inner_zip_is_refused(tmp_path: Path) -> None:
    folder = convlab_folder(tmp_path / "convlab")
    (folder / "val.json.zip").write_bytes((folder / "val.json.zip").read_bytes()[:1000])
    assert "val.json.zip is not a whole zip file" in message_of(folder)


def test_two_releases_in_one_folder_are_ambiguous(official: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    shutil.copytree(official, both / "MultiWOZ_2.0")
    shutil.copytree(official, both / "MultiWOZ_2.1")
    assert "holds both MultiWOZ_2.0/data.json and MultiWOZ_2.1/data.json" in message_of(both)


def test_a_dialogue_in_two_splits_is_refused(tmp_path: Path) -> None:
    folder = convlab_folder(tmp_path / "convlab")
    with zipfile.ZipFile(folder / "val.json.zip") as archive:
        records = archive.read("val.json")
    with zipfile.ZipFile(folder / "test.json.zip", "w") as archive:
        archive.writestr("test.json", records)
    assert "in both val and test" in message_of(folder)


def test_progress_names_the_files_read(official: Path) -> None:
    seen: list[TaskState] = []
    read_corpus(str(official), official, ThrottledProgress(seen.append, print))
    assert "read data.json" in [one.task for one in seen]
    assert [(one.done, one.total, one.finished) for one in seen] == [(1, 1, True)] * 7


def test_a_snapshot_holds_every_dialogue_and_row_and_gives_the_corpus_back() -> None:
    snapshot = environment_of(SAMPLE).snapshot()
    assert (snapshot.name, snapshot.digest, snapshot.source) == (SAMPLE.name, SAMPLE.digest, SAMPLE.source)
    assert [(one.source_id, one.split) for one in snapshot.sources] == [
        (dialogue.dialogue_id, dialogue.split) for dialogue in SAMPLE.dialogues
    ]
    first = SAMPLE.dialogues[0]
    assert snapshot.sources[0].content == {"goal": first.goal, "log": list(first.log)}
    assert snapshot.entities == SAMPLE.databases
    assert through_the_store(SAMPLE) == SAMPLE


def test_worlds_are_had_without_the_dialogues() -> None:
    environment = environment_of(SAMPLE)
    task = next(task for task in environment.tasks() if task.excluded is None)
    bare = type(environment).restore(environment.settings, replace(environment.snapshot(), sources=()))
    world = bare.world(task)
    for call in task.calls:
        world.call(call.tool, call.parameters)
    assert world.outcome(()) == 1.0


def test_the_real_validation_split_is_read_whole() -> None:
    folder = os.environ.get("JOSH_MULTIWOZ")
    if not folder:
        pytest.skip("JOSH_MULTIWOZ does not name a folder of MultiWOZ")
    corpus = read_corpus(folder, Path(folder) / "cache")
    assert len(corpus.dialogues) == 999
    assert {d.split for d in corpus.dialogues} == {"val"}
    eligible = [d for d in corpus.dialogues if not any(d.goal.get(x) for x in ("taxi", "police", "hospital"))]
    assert len(eligible) == 793
    assert all(len(d.log) % 2 == 0 and "metadata" in d.log[-1] for d in corpus.dialogues)
    assert Counter({k: len(v) for k, v in corpus.databases.items()}) == {
        "hotel": 33,
        "restaurant": 110,
        "attraction": 79,
        "train": 2828,
    }
    assert through_the_store(corpus) == corpus
