"""The class that is an environment here trains in TRL's GRPO trainer as it is."""

from pathlib import Path
from typing import Any

from datasets import Dataset
from tiny_model import tiny_model
from transformers import AutoTokenizer
from trl import GRPOConfig, GRPOTrainer
from trl.chat_template_utils import qwen3_chat_template

from josh_pipeline.core.named import named_class
from josh_pipeline.environments.registry import environment_class

ROOT = Path(__file__).parent.parent
EXAMPLE = f"{ROOT / 'examples' / 'support_desk.py'}:SupportDesk"


def a_grpo_step(cls: type, rows: list[dict[str, Any]], folder: Path) -> GRPOTrainer:
    """Train one step on two conversations of a tiny model that knows nothing."""
    model = tiny_model(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = qwen3_chat_template
    config = GRPOConfig(
        output_dir=str(folder / "out"), max_steps=1, per_device_train_batch_size=2, num_generations=2,
        max_completion_length=8, report_to=[], use_cpu=True, save_strategy="no", logging_steps=1,
    )  # fmt: skip
    trainer = GRPOTrainer(
        model=str(model), args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
        environment_factory=cls,
    )  # fmt: skip
    trainer.train()
    return trainer


def rows_of(cls: Any) -> list[dict[str, Any]]:
    """The tasks as rows of a data set: the opening is the prompt, and ``reset`` gets the rest."""
    return [
        {"prompt": [{"role": "user", "content": task["script"][0]}], "wanted": task["wanted"]} for task in cls.tasks()
    ]


def test_the_example_trains_one_step_in_trl_unchanged(tmp_path: Path) -> None:
    cls = named_class(EXAMPLE, "environment", {}, "")
    trainer = a_grpo_step(cls, rows_of(cls)[:4], tmp_path)
    assert trainer.state.global_step == 1
    offered = {tool.__name__ for tool in trainer.tools}
    made = environment_class(EXAMPLE)
    environment = made(made.Settings(name=EXAMPLE))
    world = environment.world(environment.tasks()[0])
    assert offered == {tool.name for tool in world.tools}, "TRL takes the same methods for tools"
