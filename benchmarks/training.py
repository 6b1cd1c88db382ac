"""Rows a second of training: packed trees and plain rows against TRL as its users set it up, on equal rows.

    python benchmarks/training.py [--method kto] [--rows 32] [--home .josh --iteration 1]

The rows are harvested from the trees of a home's iteration; without a home, from trees that a careless
scripted agent grows on goals of the built-in corpus, with the bundled model. Whole trees are taken until
there are enough rows. Each run is one epoch, from rows and model folder to the last step: loading, tokenizing
and the reference's scores included. One run each, in one process, one after the other, after a warm-up with
one batch.

TRL: its trainer with its own options, a bfloat16 model, a LoRA adapter as ours, the same batch size and rate,
gradient checkpointing off; attention as transformers chooses it.
"""

import argparse
import asyncio
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, SFTConfig, SFTTrainer

from josh_pipeline.cli.options import quiet_libraries
from josh_pipeline.core.environment import Carelessness
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.policy import Completion, Request
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.dialogue.agents import make_agent
from josh_pipeline.environments.toolwoz.agenda import AgendaUser
from josh_pipeline.environments.toolwoz.environment import ToolWoz
from josh_pipeline.environments.toolwoz.goal import Goal
from josh_pipeline.environments.toolwoz.sample import sample_corpus
from josh_pipeline.environments.toolwoz.script import OracleAgent
from josh_pipeline.environments.toolwoz.settings import GoalSettings, ToolWozSettings
from josh_pipeline.harvest.harvest import harvest
from josh_pipeline.harvest.rows import Row
from josh_pipeline.policies.chat import ChatRenderer
from josh_pipeline.policies.models import foundation
from josh_pipeline.search.concurrency import Limiter
from josh_pipeline.search.search import search
from josh_pipeline.search.spending import Ledger
from josh_pipeline.search.tree import Tree
from josh_pipeline.settings import SearchSettings
from josh_pipeline.settings.training import METHODS, ReferenceSettings, TrainingBase
from josh_pipeline.stages.policy import iterating_policy
from josh_pipeline.stages.registry import open_home
from josh_pipeline.stages.rollouts import stored_trees
from josh_pipeline.stages.stage import iteration_key, start_step
from josh_pipeline.training.batches import conversational
from josh_pipeline.training.fit import fit
from josh_pipeline.training.job import TrainingJob
from josh_pipeline.training.methods import Method, method_class
from josh_pipeline.training.trainers import PROJECTIONS, Rows, batched_rows

TREES = 24
CARELESS = Carelessness(claimed=0.5, dropped=0.5, denied=0.3)
MAX_TOKENS = 4096


def settings_of(method: str, packed: bool, batch_size: int | None) -> TrainingBase:
    """Return the method's defaults, without the SFT term that TRL's KTO lacks."""
    changes: dict[str, Any] = {"epochs": 1, "packed": packed, "processes": 0, "max_tokens": MAX_TOKENS}
    if batch_size is not None:
        changes["batch_size"] = batch_size
    own = method_class(method).Settings
    return own(**changes, **({"sft_weight": 0.0} if issubclass(own, ReferenceSettings) else {}))


@dataclass(frozen=True)
class Careless:
    """Answers each request as an agent that errs at random, drawn with the request's seed."""

    goal: Goal
    user: AgendaUser
    digest: str = "careless"

    async def complete(self, request: Request) -> Completion:
        """Write the next call or sentence."""
        return await OracleAgent(self.goal, self.user, CARELESS, request.seed).complete(request)

    async def close(self) -> None:
        """Nothing is held."""


async def grown_trees() -> list[Tree]:
    """Search goals of the built-in corpus."""
    environment = ToolWoz(ToolWozSettings(goals=GoalSettings(kind="whole")), sample_corpus(400, seed=0))
    goals = [goal for goal in environment.tasks() if goal.excluded is None][:TREES]
    trees = []
    for goal in goals:
        user = environment.user(goal, 0, 8)
        tree = await search(
            goal.goal_id,
            world=environment.world(goal, searching=True),
            user=user,
            policy=Careless(goal, user),
            agent=make_agent("compact", "compact"),
            settings=SearchSettings(beam_size=8, max_rounds=15),
            settings_digest="benchmark",
            seed=0,
            limiter=Limiter(1),
            account=Ledger().account(),
        )
        trees.append(tree)
    return trees


def trees_of_home(path: str, iteration: int) -> tuple[Sequence[Tree], Path]:
    """Return the trees of an iteration, and the folder of its base."""
    home = open_home(path)
    key = iteration_key(iteration)
    step = start_step(home, home.settings("", {}), f"benchmark-training-{key}", SilentProgress())
    return stored_trees(step.warehouse, key), home.absolute(iterating_policy(step, key).base_path)


def enough(trees: Sequence[Tree], method: str, wanted: int) -> tuple[Row, ...]:
    """Return the rows of whole trees, at least as many as are wanted; of three trees at least."""
    for count in range(1, len(trees) + 1):
        rows = harvest(trees[:count], method, method_class(method).kind, "partial", frozenset()).rows
        if len(rows) >= wanted and len({row.source.rollout_id for row in rows}) > 2:
            return rows
    return rows


def trl(job: TrainingJob, rows: Rows, out: Path) -> None:
    """Train as a user of TRL would."""
    settings: Any = job.settings
    arguments: dict[str, Any] = {
        "output_dir": str(out),
        "num_train_epochs": 1,
        "per_device_train_batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "gradient_checkpointing": False,
        "max_length": MAX_TOKENS,
        "bf16": False,  # the model is in bfloat16 already
        "dataloader_pin_memory": torch.cuda.is_available(),
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": job.seed,
    }
    model = AutoModelForCausalLM.from_pretrained(job.base, dtype=torch.bfloat16)
    renderer = ChatRenderer(job.base)
    lora = LoraConfig(
        r=settings.lora.r, lora_alpha=settings.lora.alpha, target_modules=list(PROJECTIONS), task_type="CAUSAL_LM"
    )
    given = {"model": model, "processing_class": renderer.tokenizer, "peft_config": lora}
    if settings.method == "sft":
        examples = [example for batch in rows.tokens for example in batch]
        data = [{"input_ids": list(e.input_ids), "labels": list(e.labels)} for e in examples]
        trainer = SFTTrainer(args=SFTConfig(**arguments), train_dataset=datasets.Dataset.from_list(data), **given)
    elif settings.method == "kto":
        data = conversations(rows)
        trainer = KTOTrainer(args=KTOConfig(**arguments, beta=settings.beta), train_dataset=data, **given)
    else:
        data = conversations(rows)
        trainer = DPOTrainer(args=DPOConfig(**arguments, beta=settings.beta), train_dataset=data, **given)
    trainer.train()


def conversations(rows: Rows) -> datasets.Dataset:
    """Return rows in TRL's conversational form; templates ask whether tools were given: an empty list was."""
    data = [
        conversational(row.row) | {"tools": json.dumps(list(row.row.tools)) if row.row.tools else None}
        for batch in rows.batches
        for row in batch
    ]
    # Without use_json the keys of different tool calls are merged, and None filled in.
    return datasets.Dataset.from_list(data, on_mixed_types="use_json")


def seconds(work: Callable[[], object]) -> float:
    """Return how long something took, with the memory of what came before it freed."""
    gc.collect()
    began = time.monotonic()
    work()
    return time.monotonic() - began


def measure(method: str, rows: tuple[Row, ...], base: Path, batch_size: int | None) -> None:
    """Run the three forms and print their rates."""
    packed, plain = (
        TrainingJob("benchmark", rows, base, None, settings_of(method, form, batch_size), 0, "none")
        for form in (True, False)
    )
    dealt = batched_rows(plain, ChatRenderer(base))
    trees = len({row.source.rollout_id for row in rows})
    print(
        f"{method}: {dealt.rows} rows of {trees} trees, {dealt.plain_tokens} tokens in batches of "
        f"{plain.settings.batch_size}; {100 * dealt.repeated:.1f} % of them repeat a beginning in their batch"
    )
    first = Rows(dealt.batches[:1], dealt.packed[:1])
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        trl(plain, first, out / "warm")  # Else the first form alone would pay for what libraries do once.
        times = {
            "TRL": seconds(lambda: trl(plain, dealt, out / "trl")),
            "plain rows": seconds(lambda: fit(plain, out / "plain", SilentProgress())),
            "packed trees": seconds(lambda: fit(packed, out / "packed", SilentProgress())),
        }
    for name, took in times.items():
        rate = dealt.rows / took
        print(f"  {name:13} {took:7.1f} s  {rate:6.2f} rows/s  {times['TRL'] / took:5.2f} x TRL", flush=True)


def main() -> int:
    """Measure each method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    methods = [name for name in METHODS if method_class(name).trl is not Method.trl]
    parser.add_argument("--method", choices=methods, action="append", help="default: all three")
    parser.add_argument("--rows", type=int, default=32, help="rows at least (default 32)")
    parser.add_argument("--threads", type=int, help="default: torch's own; 1 is steadier on a busy machine")
    parser.add_argument("--batch-size", type=int, help="default: the method's own")
    parser.add_argument("--home", help="take the trees of this home, and its base")
    parser.add_argument("--iteration", type=int, default=1)
    options = parser.parse_args()
    quiet_libraries()
    datasets.disable_progress_bars()
    if options.threads:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        try:
            if options.home:
                trees, base = trees_of_home(options.home, options.iteration)
            else:
                trees, base = asyncio.run(grown_trees()), foundation("smollm2", Path(folder))
        except UserError as fault:
            print(f"training: {fault}", file=sys.stderr)
            return 1
        print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads()}))
        for method in options.method or methods:
            measure(method, enough(trees, method, options.rows), base, options.batch_size)
    return 0


if __name__ == "__main__":
    sys.exit(main())
