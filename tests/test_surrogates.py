"""Lone surrogates, which UTF-8 cannot encode, from every side: each ends up in the store, replaced."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from corpus_layouts import write_corpus
from fakes import PrizeWorld
from report_samples import GOAL

from josh_pipeline.core.policy import Completion, Request
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.dialogue.agents import make_agent
from josh_pipeline.dialogue.users import GoalUser
from josh_pipeline.environments.toolwoz.environment import ToolWoz
from josh_pipeline.environments.toolwoz.sample import sample_corpus
from josh_pipeline.policies.endpoint import EndpointPolicy, read_completion
from josh_pipeline.search.codec import node_records, tree_record, trees_from_records
from josh_pipeline.search.rollouts import rollouts
from josh_pipeline.search.spending import Ledger
from josh_pipeline.search.tree import Tree
from josh_pipeline.settings import SearchSettings, load_settings
from josh_pipeline.stages.environment import STAGE as CORPUS
from josh_pipeline.stages.environment import stored_environment
from josh_pipeline.stages.goals import STAGE as TASKS
from josh_pipeline.stages.registry import LAYOUT, open_home
from josh_pipeline.stages.stage import corpus_scope, start_step
from josh_pipeline.store.warehouse import Warehouse

GOALS = tuple(replace(GOAL, goal_id=f"goal {number}") for number in range(3))
MARKS = {"run_id": "run", "simulated_user": "tiny"}


def call(name: str, arguments: str) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}}


class Surrogates:
    """A server that answers with a lone surrogate: in its words, a call's name, a value or a key."""

    MESSAGES = (
        {"content": "Well\ud800", "tool_calls": [call("get", '{"prize": "\\ud800"}')]},
        {"content": None, "tool_calls": [call("get\udfff", '{"prize": "a"}')]},
        {"content": None, "tool_calls": [call("get", '{"\\udc00": "\udc00"}')]},
        {"content": None, "tool_calls": [call("get", '{"prize": NaN}')]},
        {"content": "Anything\ud800 else\x00?"},
    )

    def __init__(self) -> None:
        self.served = 0

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        (length,) = [line for line in head.split("\r\n") if line.lower().startswith("content-length")]
        await reader.readexactly(int(length.split(":")[1]))
        message = self.MESSAGES[self.served % len(self.MESSAGES)]
        self.served += 1
        body = json.dumps({"choices": [{"message": message, "finish_reason": "st\ud800op"}]})
        writer.write(f"HTTP/1.1 200 X\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()


class Raw:
    """A user's model that gives its words as they are."""

    digest = "raw"

    async def complete(self, request: Request) -> Completion:
        body = json.dumps({"choices": [{"message": {"content": "More, please."}}]})
        return replace(read_completion(body.encode()), text="More\ud800, please.")

    async def close(self) -> None:
        """Nothing is held."""


def test_what_an_endpoint_and_a_users_model_say_is_stored(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path / "josh.duckdb", LAYOUT)
    kept: list[Tree] = []

    def write(trees: list[Tree]) -> None:
        kept.extend(trees)
        nodes = [record for tree in trees for record in node_records(tree)]
        warehouse.append({"trees": [tree_record(tree) | MARKS for tree in trees], "nodes": nodes}, key="rollout_id")

    async def run() -> None:
        listening = await asyncio.start_server(Surrogates().connection, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
        policy = EndpointPolicy(url, "model", 4)
        try:
            await rollouts(
                GOALS,
                lambda goal: PrizeWorld("ab"),
                lambda goal, seed, meter: GoalUser(Raw(), "an agent", goal.message, seed),
                policy,
                make_agent("function_calling", "full"),
                SearchSettings(in_flight=4, max_rounds=3, beam_size=2),
                settings_digest="settings",
                seed=0,
                attempt=0,
                checkpoint=write,
                progress=SilentProgress(),
                ledger=Ledger(),
            )
        finally:
            await policy.close()
            listening.close()

    asyncio.run(run())
    trees, nodes = warehouse.rows("SELECT * FROM trees"), warehouse.rows("SELECT * FROM nodes")
    stored = {tree.goal_id: tree for tree in trees_from_records(trees, nodes)}
    assert stored == {tree.goal_id: tree for tree in kept} and len(stored) == 3
    assert not any(node.failure for tree in kept for node in tree.nodes)
    said = {message.content for tree in kept for node in tree.nodes for message in node.messages}
    assert {"More?, please.", "Anything? else�?"} <= said
    assert any(node.calls for tree in kept for node in tree.nodes)


def test_a_corpus_with_lone_surrogates_everywhere_is_stored_with_its_goals(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    write_corpus(sample_corpus(60, 0), folder)
    records = json.loads((folder / "data.json").read_text())
    for record in list(records.values())[:30]:
        record["goal"]["message"] = ["You want a hotel\ud800.", *record["goal"]["message"]]
        record["log"][0]["text"] += "\udfff"
        record["log"][0]["odd"] = [float("nan"), {"\ud800": "\x00"}]
    records["ODD\ud800.json"] = next(iter(records.values()))
    (folder / "data.json").write_text(json.dumps(records))
    hotels = json.loads((folder / "hotel_db.json").read_text())
    hotels[0]["name"] += "\ud800"
    (folder / "hotel_db.json").write_text(json.dumps(hotels))

    home = open_home(tmp_path / "home")
    settings = load_settings("quickstart", {"environment": {"corpus": {"source": str(folder)}}})
    step = start_step(home, settings, "run", SilentProgress())
    CORPUS.run(step, None)
    environment = stored_environment(step.warehouse, settings.environment, corpus_scope(settings), sources=True)
    assert isinstance(environment, ToolWoz)
    corpus = environment.corpus
    by_id = {dialogue.dialogue_id: dialogue for dialogue in corpus.dialogues}
    first = by_id["ODD?"].log[0]
    assert first["text"].endswith("?") and first["odd"] == [None, {"?": "�"}]
    assert corpus.databases["hotel"][0]["name"] == hotels[0]["name"][:-1] + "?"
    TASKS.run(step, None)
    messages = step.warehouse.query("SELECT message FROM goals")["message"]
    assert messages.str.contains("You want a hotel?", literal=True).any()
