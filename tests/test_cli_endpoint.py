"""A policy behind an OpenAI-compatible endpoint is evaluated and harvested; its weights are elsewhere."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import dagster as dg
import pytest
from tiny_loop import SETTINGS, answering, tiny_profile

from assets.cli import run as main
from assets.launch import instance_of
from josh_pipeline.core.content import derived_seed
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

    def reply(self, value: object, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class NewerModel(Model):
    """Refuses what newer models of the API refuse, in their words."""

    bodies: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.bodies.append(body)
        if "max_tokens" in body:
            use = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' "
            self.refuse(f"{use}instead.", "max_tokens", "unsupported_parameter")
        elif body.get("temperature", 1) != 1:
            only = "does not support 0 with this model. Only the default (1) value is supported."
            self.refuse(f"Unsupported value: 'temperature' {only}", "temperature", "unsupported_value")
        elif "top_k" in body:
            self.refuse("Unrecognized request argument supplied: top_k", None, None)
        elif "seed" in body:
            self.refuse("Unknown parameter: 'seed'.", "seed", "unknown_parameter")
        else:
            messages = tuple(Message(m["role"], m["content"]) for m in body["messages"])
            sampling = Sampling(1.0, body["max_completion_tokens"])
            seed = derived_seed(body["messages"][-1]["content"])
            text = self.answer(Request(messages, (), sampling, seed), 0.8)
            self.reply({"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": {}})

    def refuse(self, message: str, param: str | None, code: str | None) -> None:
        error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
        self.reply({"error": error}, status=400)


@pytest.fixture
def endpoint(request: pytest.FixtureRequest) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), getattr(request, "param", Model))
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


@pytest.mark.parametrize("endpoint", [NewerModel], indirect=True)
def test_a_model_that_takes_no_max_tokens_temperature_seed_and_top_k_is_played_with_and_what_is_lost_is_told(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOSH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DAGSTER_HOME", "")
    profile = str(tiny_profile(tmp_path, search=SETTINGS["search"] | {"top_k": 40}))
    extra = "policy.extra_body={reasoning_effort: low, metadata: {team: josh}}"
    assert main(["iterate", "--profile", profile, "--endpoint", endpoint, "--model", "m", "--set", extra]) == 0
    greedy = "temperature 0 (its answers are not greedy: an evaluation that is repeated may differ)"
    seed = "a seed (the same request may be answered in other words)"
    lost = f"'m' at {endpoint} does not take {seed}, {greedy}."
    warm = "temperature 0.7 (it samples at its own), top_k 40 (it samples from all tokens)"
    searched = f"'m' at {endpoint} does not take {seed}, {warm}."
    said = " ".join(capsys.readouterr().err.split())
    assert said.count(lost) == 1 and said.count(searched) == 1

    warehouse = open_home().warehouse()
    assert warehouse.rows("SELECT count(*) AS n FROM episodes WHERE failure IS NOT NULL") == [{"n": 0}]
    assert warehouse.rows("SELECT count(*) > 0 AS some FROM current_preference_rows") == [{"some": True}]
    with instance_of(open_home()) as instance:
        for asset, sentence in (("base_evaluation", lost), ("beam_rollouts", searched)):
            event = instance.get_latest_materialization_event(dg.AssetKey(asset))
            assert event is not None and event.asset_materialization is not None
            assert event.asset_materialization.metadata["agent's endpoint"].value == sentence
    kept = [body for body in NewerModel.bodies if not body.keys() & {"max_tokens", "temperature", "seed", "top_k"}]
    assert {body["max_completion_tokens"] for body in kept} == {256}
    # Of each of the two openings one request meets the refusals: the others know.
    assert len(NewerModel.bodies) - len(kept) == 3 + 4
    assert all(body["reasoning_effort"] == "low" and body["metadata"] == {"team": "josh"} for body in kept)

    assert main(["evaluate", "--number", "13", "--role", "train", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["agent's endpoint"] == lost


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
