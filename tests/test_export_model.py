"""``josh export --model``: a policy leaves its home as files that transformers, peft and vLLM load."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
import torch
from finished_home import copied, finished_home, step_of
from peft import AutoPeftModelForCausalLM
from stored_answers import Answered, stored_answers
from tampering import alter
from transformers import AutoModelForCausalLM, AutoTokenizer

from josh_pipeline.cli.main import main
from josh_pipeline.core.errors import UserError
from josh_pipeline.policies.chat import ChatRenderer, template_message
from josh_pipeline.policies.vllm_engine import vllm_installed
from josh_pipeline.policies.weights import merge
from josh_pipeline.report import export_model as exporting
from josh_pipeline.report.export_model import export_model
from josh_pipeline.settings import Settings
from josh_pipeline.stages.benchmark import benchmark
from josh_pipeline.stages.playing import stored_episodes
from josh_pipeline.stages.registry import open_home, prepare
from josh_pipeline.store.home import Home

LONGEST = 24
"""New tokens of an answer: a model without skill only ever ends by chance."""
NEAR = 0.5
"""Logits of a bfloat16 model lie around 30, where neighbouring numbers are 0.125 apart, or 0.25 above 32."""


@pytest.fixture
def home(finished: Home, tmp_path: Path) -> Home:
    return copied(finished, tmp_path)


def promoted(home: Home) -> dict[str, str]:
    return home.warehouse().rows("SELECT * FROM current_promotions WHERE promoted ORDER BY iteration DESC LIMIT 1")[0]


def evaluated(home: Home, goals: int, backend: str = "transformers") -> tuple[Settings, list[str]]:
    """Let the newest policy itself play some test goals; returns its conversations too."""
    settings = home.settings("", {"policy": {"backend": backend}, "evaluation": {"max_tokens": LONGEST}})
    found = benchmark(step_of(home, settings, "by itself"), "latest", "test", None, 1, goals)
    members = home.warehouse().written("benchmark_episodes", found.generation)
    return settings, [row["episode_id"] for row in members]


def refusal(home: Home, out: Path, called: str = "latest") -> str:
    with pytest.raises(UserError) as fault:
        export_model(home, called, out)
    text = str(fault.value)
    assert text.endswith(".") and "\n" not in text
    assert not out.with_name(f"{out.name}.partial").exists()
    return text


def test_the_exported_model_answers_in_transformers_as_the_pipelines_own_conversations(
    home: Home, tmp_path: Path
) -> None:
    settings, episodes = evaluated(home, 4)
    asked = stored_answers(home, settings, episodes)
    out = export_model(home, "latest", tmp_path / "out").folder
    policy = promoted(home)["policy_digest"]
    served = home.merged / policy / "model.safetensors"
    assert (out / "model.safetensors").read_bytes() == served.read_bytes(), "it is what was evaluated"
    tokenizer = AutoTokenizer.from_pretrained(out)
    model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)

    def answer(one: Answered) -> str:
        messages = [template_message(message, structured=False) for message in one.messages]
        prompt = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        made = model.generate(**prompt, max_new_tokens=LONGEST)[0, prompt["input_ids"].shape[1] :]
        return str(tokenizer.decode(made, skip_special_tokens=True)).strip()

    assert len(asked) >= 4
    assert [answer(one) for one in asked] == [one.answer for one in asked]


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a model folder with vLLM, as ``vllm serve`` does, and yield its URL."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "josh", "--max-model-len", "8192"]
    # As in policies/vllm_engine.py: a CPU takes no chunked prefill, and compiling takes longer than the test.
    options += ["--enforce-eager", "--no-enable-chunked-prefill", "--max-num-batched-tokens", "8192"]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder), *options]
    environment = os.environ | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1"}
    log = folder.with_name("vllm.log")
    with log.open("wb") as sink:
        server = subprocess.Popen(command, env=environment, stdout=sink, stderr=sink, start_new_session=True)
    url = f"http://127.0.0.1:{port}/v1"
    try:
        while True:
            assert server.poll() is None, log.read_text()[-3000:]
            try:
                httpx2.get(f"{url}/models").raise_for_status()
                break
            except httpx2.TransportError:
                time.sleep(1)
        yield url
    finally:
        server.terminate()
        server.wait(60)


def test_the_lines_for_transformers_in_the_docs_run_on_an_exported_model(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export_model(home, "latest", tmp_path / "model")
    page = (Path(__file__).parent.parent / "docs" / "serve.md").read_text()
    monkeypatch.chdir(tmp_path)
    exec(page.split("```python\n")[2].split("```")[0], {})
    assert capsys.readouterr().out.strip()


def gap(model: torch.nn.Module, renderer: ChatRenderer, asked: Answered, made: list[int]) -> float:
    """Return by how many nats the likelier of two answers is ahead, at the first token in which they differ."""
    stored = renderer.tokenizer(asked.answer, add_special_tokens=False)["input_ids"] + [renderer.stop_ids[-1]]
    place = next(at for at, (one, other) in enumerate(zip(stored, made, strict=False)) if one != other)
    prompt = renderer.prompt_ids(asked.messages, asked.tools) + stored[:place]
    with torch.inference_mode():
        logits = model(torch.tensor([prompt])).logits[0, -1]
    return abs(float(logits[stored[place]] - logits[made[place]]))


@pytest.mark.slow
@pytest.mark.skipif(not vllm_installed(), reason="vLLM is not installed")
def test_a_vllm_server_of_the_exported_model_answers_as_the_pipelines_own_conversations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # vLLM on a CPU has no heads as small as the tiny model's.
    monkeypatch.setattr("tiny_loop.tiny_model", lambda folder: "smollm2")
    home = finished_home(tmp_path, rounds=1)
    settings, episodes = evaluated(home, 4, "vllm")
    asked = stored_answers(home, settings, episodes)
    out = export_model(home, "latest", tmp_path / "out").folder
    renderer = ChatRenderer(out)
    with serving(out) as url:

        def sampled(one: Answered) -> list[int]:
            messages = [template_message(message, structured=False) for message in one.messages]
            body = {"model": "josh", "messages": messages, "temperature": 0, "max_tokens": LONGEST}
            answer = httpx2.post(f"{url}/chat/completions", json=body | {"return_token_ids": True}, timeout=120)
            made = answer.raise_for_status().json()
            assert made["prompt_token_ids"] == renderer.prompt_ids(one.messages, ())
            return list(made["choices"][0]["token_ids"])

        answers = [(one, sampled(one)) for one in asked]
        differing = [(one, made) for one, made in answers if renderer.decode(made).strip() != one.answer]
        # In bfloat16, other neighbours in a batch turn a near tie now and then, and nothing else.
        assert len(asked) >= 8 and len(differing) <= len(asked) // 4
        model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
        assert all(gap(model, renderer, *one) < NEAR for one in differing)

        # The pipeline itself, with the server as its policy, has the same conversations.
        policy = settings.policy.model_copy(update={"endpoint": url, "model": "josh"})
        elsewhere = step_of(open_home(tmp_path / "other"), settings.model_copy(update={"policy": policy}), "endpoint")
        prepare(elsewhere)
        found = benchmark(elsewhere, "latest", "test", None, 1, 4)
        members = elsewhere.warehouse.written("benchmark_episodes", found.generation)
        conversations = [
            {one.goal_id: one.messages for one in stored_episodes(store, ids)}
            for store, ids in (
                (home.warehouse(), episodes),
                (elsewhere.warehouse, [row["episode_id"] for row in members]),
            )
        ]
        alike = [conversations[0][goal] == messages for goal, messages in conversations[1].items()]
        assert len(alike) == 4 and sum(alike) >= 2, "one near tie makes all that follows another conversation"


def test_peft_finds_the_base_of_the_exported_adapter_from_any_folder(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = export_model(home, "latest", tmp_path / "out")
    shutil.rmtree(home.root)
    monkeypatch.chdir("/")
    apart = AutoPeftModelForCausalLM.from_pretrained(made.folder / "adapter", dtype=torch.float32)
    merged = AutoModelForCausalLM.from_pretrained(made.folder, dtype=torch.float32)
    ids = torch.tensor([[5, 6, 7]])
    assert torch.allclose(apart(ids).logits, merged(ids).logits, atol=2e-2)
    assert made.base == str(made.folder / "base")


def test_a_base_of_the_hub_is_named_by_its_id_and_commit_and_not_copied(home: Home, tmp_path: Path) -> None:
    cached = tmp_path / "hub" / "models--some--model" / "snapshots" / "0123abcd"
    cached.parent.mkdir(parents=True)
    shutil.copytree(promoted(home)["base_path"], cached)
    (cached / "original").mkdir()
    alter(home, f"UPDATE policies SET base_path = '{cached}'")
    made = export_model(home, "1", tmp_path / "out")
    config = json.loads((made.folder / "adapter" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("some/model", "0123abcd")
    assert not (made.folder / "base").exists() and "`some/model`" in (made.folder / "README.md").read_text()
    shutil.rmtree(cached)
    assert "hf download some/model --revision 0123abcd" in refusal(home, tmp_path / "other", "1")


def test_only_the_merged_weights_are_in_a_merged_checkpoint(home: Home, tmp_path: Path) -> None:
    """A published folder may hold the same weights under other names, which some servers load first."""
    base = shutil.copytree(promoted(home)["base_path"], tmp_path / "base")
    others = ("consolidated.safetensors", "pytorch_model.bin", "pytorch_model.bin.index.json")
    for name in (*others, "LICENSE"):
        (base / name).write_text("{}")
    merged = merge(base, home.absolute(promoted(home)["adapter_path"]), tmp_path / "merged")
    assert not {path.name for path in merged.iterdir()} & set(others)
    assert (merged / "LICENSE").is_file()


def test_the_card_says_what_the_model_is_and_how_good(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, digest = tmp_path / "out", promoted(home)["policy_digest"]
    assert main(["export", "--model", "--out", str(out), "--home", str(home.root)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{out}  JOSH round 2, policy {digest}")
    card = (out / "README.md").read_text()
    score = json.loads(home.warehouse().rows(
        "SELECT details FROM current_evaluations WHERE policy_digest = ? AND role = 'test' AND side = 'after'", [digest]
    )[0]["details"])  # fmt: skip
    assert f"policy `{digest}`, made by iteration 002" in card
    assert f"| parts, test | {score['n']} | {score['reward']:.3f} | {100 * score['success']:.1f} % [" in card
    assert "agent format `compact`" in card and "It was promoted" in card


def test_published_ways_of_sampling_give_way_to_the_pipelines(home: Home, tmp_path: Path) -> None:
    """Greedy answers under a published repetition penalty would not be those that were evaluated."""
    written = json.loads((export_model(home, "latest", tmp_path / "out").folder / "generation_config.json").read_text())
    del written["transformers_version"]
    assert written == {"do_sample": False, "eos_token_id": [2], "pad_token_id": 0}


@pytest.mark.parametrize("called", ["000", "base digest"])
def test_a_base_on_which_nothing_was_trained_is_exported_as_it_is(home: Home, tmp_path: Path, called: str) -> None:
    base = Path(promoted(home)["base_path"])
    digest = promoted(home)["base_digest"]
    made = export_model(home, digest if called == "base digest" else called, tmp_path / "out")
    for name in ("model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja"):
        assert (made.folder / name).read_bytes() == (base / name).read_bytes()
    assert made.base is None and not (made.folder / "adapter").exists()


def test_a_policy_is_named_by_iteration_or_by_the_first_digits_of_its_digest(home: Home, tmp_path: Path) -> None:
    digest = home.warehouse().rows("SELECT policy_digest FROM current_trainings WHERE iteration = '001'")[0][
        "policy_digest"
    ]
    by_iteration, by_digest = (
        export_model(home, called, tmp_path / called).policy for called in ("001", digest[:9])
    )  # fmt: skip
    assert by_iteration.policy_digest == by_digest.policy_digest == digest
    assert "and no policy begins so" in refusal(home, tmp_path / "out", "beef" * 4)


def test_a_folder_that_holds_something_is_refused_and_kept(home: Home, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "model-00001-of-00002.safetensors").write_text("of another model")
    assert "no empty folder: give another --out" in refusal(home, out)
    assert [path.read_text() for path in out.iterdir()] == ["of another model"]
    (tmp_path / "empty").mkdir()
    assert export_model(home, "latest", tmp_path / "empty").folder == tmp_path / "empty"
    file = tmp_path / "file"
    file.write_text("")
    assert "cannot be written (" in refusal(home, file / "out")


def last_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("part", ["adapter", "base"])
def test_weights_that_are_not_those_that_were_trained_are_refused(
    finished: Home, home: Home, tmp_path: Path, part: str
) -> None:
    row = promoted(home)
    base = shutil.copytree(row["base_path"], tmp_path / "base")
    alter(home, f"UPDATE policies SET base_path = '{base}'")
    files = {"adapter": home.absolute(row["adapter_path"]) / "adapter_model.safetensors", "base": base / "config.json"}
    last_byte(files[part])
    found = refusal(home, tmp_path / "out")
    assert f"The files in {files[part].parent} are not those with the digest" in found and "one was altered" in found
    assert not (tmp_path / "out").exists()


def test_weights_that_are_missing_say_what_to_do(home: Home, tmp_path: Path) -> None:
    row = promoted(home)
    shutil.rmtree(home.absolute(row["adapter_path"]))
    found = refusal(home, tmp_path / "out")
    assert found.startswith(f"{row['adapter_path']} is missing")
    assert "put that folder back from a copy of the home, or take another policy that josh scores --json" in found


def test_a_digest_that_was_changed_with_its_files_is_refused(home: Home, tmp_path: Path) -> None:
    alter(home, "UPDATE trainings SET adapter_digest = 'f00d' WHERE iteration = '002'")
    assert "is not that of its base with its adapter: run josh audit" in refusal(home, tmp_path / "out")


def test_a_policy_at_an_endpoint_has_no_weights_to_export(home: Home, tmp_path: Path) -> None:
    alter(home, "UPDATE policies SET kind = 'endpoint', base_path = '', model = 'm at http://h/v1'")
    assert "are not here to be exported: it is m at http://h/v1" in refusal(home, tmp_path / "out", "000")


def test_a_home_without_a_promotion_has_nothing_to_export(home: Home, tmp_path: Path) -> None:
    alter(home, "UPDATE promotions SET promoted = false")
    assert "run josh iterate first" in refusal(home, tmp_path / "out")


@pytest.mark.parametrize("more", [["--format", "jsonl"], ["001"]])
def test_tables_and_a_model_are_not_exported_at_once(
    home: Home, tmp_path: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", "002", "--out", str(tmp_path / "out"), "--home", str(home.root)]
    assert main(["export", *more, *options]) == 1
    assert "leave ITERATION and --format out" in capsys.readouterr().err


def test_an_export_that_is_cut_off_leaves_no_folder_and_the_next_one_is_whole(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from josh_pipeline.report import export_model as exporting\n"
        "from josh_pipeline.stages.registry import open_home\n"
        "exporting.model_card = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "exporting.export_model(open_home(sys.argv[1]), 'latest', Path(sys.argv[2]))\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(home.root), str(out)], check=False)
    assert killed.returncode == -9 and not out.exists()
    assert (tmp_path / "out.partial" / "model.safetensors").is_file(), "it was killed at the very end"

    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(exporting, "model_card", full)
        assert "(No space left on device): make room" in refusal(home, out)
    assert export_model(home, "latest", out).folder.is_dir()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("out")) == ["out"]


def test_a_home_of_another_release_whose_settings_cannot_be_read_is_exported_without_them(
    home: Home, tmp_path: Path
) -> None:
    alter(home, "UPDATE runs SET settings = '{\"corpus\": {}}'")
    card = (export_model(home, "latest", tmp_path / "out").folder / "README.md").read_text()
    assert "Its settings are of another release" in card and "| parts, test |" not in card
