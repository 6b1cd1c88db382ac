"""``josh export``: tables as Parquet, training rows that TRL reads."""

import hashlib
import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
from datasets import load_dataset
from finished_home import copied, step_of
from trl import SFTConfig, SFTTrainer

from josh_pipeline.cli.main import main
from josh_pipeline.core.messages import Message, ToolCall
from josh_pipeline.harvest.rows import Provenance, Row, Said, Side
from josh_pipeline.report.export import example, export
from josh_pipeline.settings.training import DpoSettings, KtoSettings
from josh_pipeline.stages.preferences import harvest_rows, stored_rows
from josh_pipeline.store.home import Home

SOURCE = Provenance("g", "t", "p")
TOOLS = ({"type": "function", "function": {"name": "search_hotel", "parameters": {"type": "object"}}},)


def none_filled(value: Any) -> bool:
    if isinstance(value, dict):
        return any(one is None or none_filled(one) for one in value.values())
    return isinstance(value, list) and any(none_filled(one) for one in value)


def loaded(path: Path, folder: Path) -> list[dict[str, Any]]:
    return list(load_dataset("json", data_files=str(path), split="train", cache_dir=str(folder / "cache")))


def test_everything_is_exported_with_a_manifest_that_says_how(
    finished: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["export", "--home", str(finished.root), "--out", str(out)]) == 0
    assert "sft-001.jsonl" in capsys.readouterr().out
    manifest = json.loads((out / "manifest.json").read_text())
    for file in manifest["files"]:
        assert hashlib.sha256((out / file["name"]).read_bytes()).hexdigest() == file["sha256"]
    by_name = {file["name"]: file for file in manifest["files"]}
    store = finished.warehouse()
    for table in ("sources", "nodes", "episodes", "labels", "runs"):
        stored = store.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"]
        read = duckdb.sql(f"SELECT count(*) FROM '{out}/tables/{table}.parquet'").fetchall()[0][0]
        assert stored == read == by_name[f"tables/{table}.parquet"]["rows"] != 0
    ids = [row.row_id for row in stored_rows(store, "001")]
    assert by_name["sft-001.jsonl"]["row_ids"] == ids
    assert (
        manifest["generations"]["preferences/001/1"]
        == store.rows("SELECT digest FROM generations WHERE stage = 'preferences' AND scope = '001'")[0]["digest"]
    )


def test_one_iteration_and_one_format_can_be_asked_for(
    finished: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["export", "2", "--home", str(finished.root), "--out", str(out), "--format", "jsonl"]
    assert main(arguments) == 0
    assert sorted(path.name for path in out.iterdir()) == ["manifest.json", "sft-002.jsonl"]
    export(finished, "002", out, ("parquet",))
    iterations = duckdb.sql(f"SELECT DISTINCT iteration FROM '{out}/tables/labels.parquet'").fetchall()
    assert iterations == [("002",)]
    assert main(["export", "7", "--home", str(finished.root), "--out", str(out)]) == 1
    assert "nothing to export" in capsys.readouterr().err


def test_sft_rows_load_and_trl_prepares_them(finished: Home, tmp_path: Path) -> None:
    export(finished, "001", tmp_path / "out", ("jsonl",))
    rows = loaded(tmp_path / "out" / "sft-001.jsonl", tmp_path)
    stored = stored_rows(finished.warehouse(), "001")
    assert [[m["content"] for m in row["messages"]] for row in rows] == [
        [message.content for message in row.conversation(row.sides[0])] for row in stored
    ]
    assert not none_filled(rows)
    model = finished.warehouse().rows("SELECT base_path FROM current_base_models")[0]["base_path"]
    trainer = SFTTrainer(
        model=str(finished.absolute(model)),
        args=SFTConfig(output_dir=str(tmp_path / "trl"), max_length=8192, report_to=[], use_cpu=True),
        train_dataset=load_dataset(
            "json", data_files=str(tmp_path / "out" / "sft-001.jsonl"), split="train",
            cache_dir=str(tmp_path / "cache"),
        ),
    )  # fmt: skip
    assert len(trainer.train_dataset) == len(stored)
    assert all(row["input_ids"] for row in trainer.train_dataset)


@pytest.mark.parametrize("method", ["kto", "dpo"])
def test_preferences_load_with_the_keys_that_trl_reads(finished: Home, tmp_path: Path, method: str) -> None:
    home = copied(finished, tmp_path)
    training = KtoSettings() if method == "kto" else DpoSettings()
    harvest_rows(step_of(home, home.settings().model_copy(update={"training": training}), method), "001")
    export(home, "001", tmp_path / "out", ("jsonl",))
    rows = loaded(tmp_path / "out" / f"{method}-001.jsonl", tmp_path)
    wanted = {"prompt", "completion", "label"} if method == "kto" else {"prompt", "chosen", "rejected"}
    assert all(row.keys() == wanted for row in rows) and not none_filled(rows)
    assert all(row["prompt"][0]["role"] == "system" for row in rows)
    if method == "kto":
        assert {row["label"] for row in rows} == {True, False}


def conversation(*calls: dict[str, Any]) -> tuple[Message, ...]:
    messages: tuple[Message, ...] = (Message("system", "Help."), Message("user", "Hi"))
    for arguments in calls:
        messages += (Message("assistant", "", (ToolCall("search_hotel", arguments),)), Message("tool", '{"rows": []}'))
    return (*messages, Message("assistant", "Nothing matches."))


def test_tool_calls_with_different_arguments_load_without_filled_in_keys(tmp_path: Path) -> None:
    """Arrow would merge the keys of all calls and fill in None, and the model would learn to say so."""
    talks = [
        conversation({"area": "north"}, {"stars": "4", "area": "east"}),
        conversation({"name": "city roomz"}),
        conversation(),
    ]
    rows = [
        Row(
            "sft",
            SOURCE,
            TOOLS,
            talk[:1],
            (Side(tuple(Said(m, m.role == "assistant") for m in talk[1:]), "desirable"),),
        )
        for talk in talks
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(example(row, with_tools=True)) + "\n" for row in rows))
    found = loaded(path, tmp_path)
    assert not none_filled(found)
    calls = [
        message["tool_calls"][0]["function"]["arguments"]
        for row in found
        for message in row["messages"]
        if message.get("tool_calls")
    ]
    assert calls == [{"area": "north"}, {"stars": "4", "area": "east"}, {"name": "city roomz"}]
    assert [json.loads(row["tools"])[0]["function"]["name"] for row in found] == ["search_hotel"] * 3


def test_pairs_and_single_messages_keep_their_sides(tmp_path: Path) -> None:
    prompt = conversation()[:2]
    good, bad = ((Said(Message("assistant", text), True),) for text in ("Which area?", "Booked!"))
    sides = Side(good, "desirable"), Side(bad, "undesirable")
    pair = example(Row("dpo", SOURCE, (), prompt, sides), with_tools=False)
    assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == ("Which area?", "Booked!")
    single = example(Row("kto", SOURCE, (), prompt, sides[1:]), with_tools=False)
    assert (single["completion"][0]["content"], single["label"]) == ("Booked!", False)
    assert "tools" not in pair and "tools" not in single
