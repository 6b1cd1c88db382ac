"""The paper's profile, one iteration end to end: KTO on a random two-layer Llama, an LLM as the user."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from fakes import answered_by, chance
from tiny_model import tiny_model

from assets.launch import instance_of, run_job
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.policy import Request
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.dialogue.users import END_MARK, wishes
from josh_pipeline.environments.toolwoz.goals import derive_goals
from josh_pipeline.environments.toolwoz.sample import sample_corpus
from josh_pipeline.policies.weights import require
from josh_pipeline.settings import load_settings
from josh_pipeline.stages.registry import missing_preparation, open_home
from josh_pipeline.stages.stage import Step

DIALOGUES = 80


class UserModel(BaseHTTPRequestHandler):
    """An OpenAI-compatible server whose model tells all its wishes at once, then ends the conversation."""

    def do_GET(self) -> None:
        self.answer({"data": [{"id": "user"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        opening = not any("\n- " in m["content"] for m in body["messages"] if m["role"] == "assistant")
        wanted = body["messages"][0]["content"].replace(END_MARK, "goodbye")
        said = wanted if opening else END_MARK
        self.answer({"choices": [{"message": {"content": said}, "finish_reason": "stop"}]})

    def answer(self, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def user_endpoint() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), UserModel)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def react_policy(skill: float) -> Callable[..., Any]:
    """Return a stand-in for ``open_policy``: all right calls at once, or a chat, by the request's seed."""
    goals = derive_goals(sample_corpus(DIALOGUES), "audited")
    calls = {wishes(goal.message): goal.calls for goal in goals}

    def answer(request: Request) -> str:
        first = next(m.content for m in request.messages if m.role == "user")
        wanted = next(found for text, found in calls.items() if text in first)
        if chance(request).random() >= skill:
            return "PLAN stall\nSPEAK What else?"
        made = "\n".join(
            f"APICALL {json.dumps({'name': call.tool, 'parameters': dict(call.parameters)})}" for call in wanted
        )
        return f"PLAN call\n{made}\nSPEAK All done."

    return answered_by(answer)


def test_the_paper_profile_runs_one_iteration_with_kto_and_an_llm_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user_endpoint: str
):
    paper = load_settings("paper").model_dump(mode="json", exclude={"profile"})
    assert paper["training"]["method"] == "kto" and paper["search"]["beam_size"] == 8
    assert paper["environment"]["goals"]["kind"] == "whole" and paper["user"]["kind"] == "goal"
    # What a GPU, a hub and a bill would be needed for, and the size; everything else is the paper's.
    paper["environment"]["corpus"] = {"source": "sample", "sample_dialogues": DIALOGUES}
    paper["policy"] |= {"model": str(tiny_model(tmp_path / "model")), "quantization": "none"}
    paper["user"] |= {"endpoint": user_endpoint, "model": "user"}
    paper["search"]["goals"] = 6
    paper["training"] |= {"optimizer": "adamw_torch", "max_tokens": 8192}
    paper["evaluation"] |= {"test_goals": 6, "val_goals": 4}
    profile = tmp_path / "paper-tiny.yaml"
    profile.write_text(yaml.safe_dump(paper))

    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.setattr("josh_pipeline.policies.open.open_policy", react_policy(0.6))
    home = open_home(tmp_path / "home")
    settings = home.settings(str(profile))
    digest = home.keep_settings(settings)
    with instance_of(home) as instance:
        missing = missing_preparation(Step(home, home.warehouse(), settings, "", SilentProgress()))
        run_job(instance, "prepare", digest, None, [stage.asset for stage in missing])
        run_job(instance, "baseline", digest)
        run_job(instance, "iteration", digest, "001", None)

    rows = home.warehouse().rows
    labels = {row["label"] for row in rows("SELECT DISTINCT label FROM current_preference_rows")}
    assert labels == {"desirable", "undesirable"}
    training = rows("SELECT * FROM current_trainings WHERE iteration = '001'")[0]
    assert training["method"] == "kto"
    record = json.loads(str(training["manifest"]))["settings"]
    assert (record["beta"], record["undesirable_weight"], record["lora"]["r"]) == (0.1, 2.71, 64)
    assert home.absolute(str(training["adapter_path"])).joinpath("adapter_model.safetensors").is_file()
    assert rows("SELECT count(*) AS n FROM current_promotions WHERE iteration = '001'")[0]["n"] == 1


def test_four_bit_weights_are_refused_in_one_sentence_where_they_cannot_run():
    with pytest.raises(UserError, match="needs a GPU and bitsandbytes"):
        require("nf4")
