"""The classes of example and README train in TRL's GRPO trainer as they are."""

import sys
from pathlib import Path
from typing import Any

import pytest
from test_own_docs import PAGE, ROOT, blocks, readme_class
from tiny_model import tiny_model
from transformers import AutoTokenizer
from trl.chat_template_utils import qwen3_chat_template

from josh_pipeline.environments.registry import environment_class

SMALL = 'GRPOConfig("{}", max_steps=1, max_completion_length=8, use_cpu=True, report_to=[], save_strategy="no")'


def page_code(folder: Path) -> str:
    """The page's code, on a model that knows nothing, with answers of a few tokens."""
    model = tiny_model(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = qwen3_chat_template
    tokenizer.save_pretrained(model)
    code = blocks(PAGE, "python")[-1]
    code = code.replace("Qwen/Qwen3-0.6B", str(model))
    return code.replace('GRPOConfig("grpo", max_steps=1)', SMALL.format(folder / "grpo"))


def test_the_example_trains_one_step_in_trl_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    ran: dict[str, Any] = {}
    exec(page_code(tmp_path), ran)
    assert ran["trainer"].state.global_step == 1
    name = f"{ROOT / 'examples' / 'support_desk.py'}:SupportDesk"
    cls = environment_class(name)
    environment = cls(cls.Settings(name=name))
    offered = {tool.name for tool in environment.world(environment.tasks()[0]).tools}
    assert {tool.__name__ for tool in ran["trainer"].tools} == offered, "TRL takes the same methods for tools"


def test_the_readmes_class_trains_one_step_in_trl_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cls = readme_class(tmp_path).of
    monkeypatch.setitem(sys.modules, "support_desk", sys.modules[cls.__module__])
    code = page_code(tmp_path).replace("SupportDesk", "Lights")
    code = code.replace('task["script"][0]', 'task["text"]').replace('"wanted": task["wanted"]', '"room": task["room"]')
    ran: dict[str, Any] = {}
    exec(code, ran)
    assert ran["trainer"].state.global_step == 1
