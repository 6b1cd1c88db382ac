"""A policy behind an OpenAI-compatible endpoint is evaluated and harvested; its weights are elsewhere."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from tiny_loop import answering, tiny_profile

from assets.cli import run as main
from josh_pipeline.core.messages import Message
from josh_pipeline.core.policy import Request, Sampling
from josh_pipeline.stages.registry import open_home


class Model(BaseHTTPRequestHandler):
    """Answers chats like the scripted policy of the other tests."""

    answer = staticmethod(answering())
    paths: ClassVar[set[str]] = set()

    def do_GET(self) -> None:
        self.reply({"data": [{"id": "m"}]})

    def do_POST(self) -> None:
        self.paths.add(self.path)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        messages = tuple(Message(m["role"], m["content"]) for m in body["messages"])
        sampling = Sampling(body["temperature"], body["max_tokens"])
        text = self.answer(Request(messages, (), sampling, body["seed"]), 0.8)
        self.reply({"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": {}})

    def reply(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    server.shutdown()
    server.server_close()


def test_an_endpoint_is_evaluated_and_its_rows_are_kept_but_nothing_is_trained(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOSH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", "")
    profile = str(tiny_profile(tmp_path))
    capsys.readouterr()  # transformers draws a bar where it writes a model
    assert main(["iterate", "--profile", profile, "--endpoint", endpoint, "--model", "m"]) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("The weights of 'm' are at an endpoint and cannot be trained here: it is evaluated, and one")
    warehouse = open_home().warehouse()
    assert Model.paths == {"/v1/chat/completions"}
    assert warehouse.rows("SELECT count(*) > 0 AS some FROM current_preference_rows") == [{"some": True}]
    assert warehouse.rows("SELECT * FROM trainings") == []
    drift = warehouse.rows("SELECT drift, reason FROM current_drifts")
    assert drift == [{"drift": None, "reason": "The weights of an endpoint's model are not here."}]

    assert main(["evaluate", "--number", "4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    policies = warehouse.rows("SELECT policy_digest FROM current_policies WHERE iteration = '000'")
    assert policies == [{"policy_digest": found["policy"]}]

    before = open_home().settings()
    assert main(["evaluate", "--endpoint", endpoint, "--model", "another", "--number", "1"]) == 0
    assert open_home().settings() == before, "only looking at another model is no run that others go on from"


def test_the_conversation_from_python_in_the_docs_is_held_as_it_is_printed_there(endpoint: str) -> None:
    page = (Path(__file__).parent.parent / "docs" / "serve.md").read_text()
    script = page.split("```python\n")[1].split("```")[0]
    typed = "I'm looking for a museum.\nThanks.\n"
    done = subprocess.run(
        [sys.executable, "-c", script, endpoint, "m"], input=typed, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert "\n".join(said[:3]) in page, "the system message"
    roles = {line.split(":")[0] for line in said[3:]}
    assert "assistant" in roles <= {"assistant", "tool"}
