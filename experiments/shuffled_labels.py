"""A regression made on purpose: KTO on one iteration's rows, with their labels and with shuffled ones.

    python experiments/shuffled_labels.py --home .josh --iteration 1 [--rate 3e-4]

Both candidates start from the iteration's policy, train at the same rate for the same number of steps and
play the goals of role `val`; the gate's own sentence is printed for each, drift included. Results are
appended to experiments/shuffled-labels-ITERATION.jsonl in the home; a rerun makes only what is missing.
"""

import argparse
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from josh_pipeline.commands.options import quiet_libraries
from josh_pipeline.errors import UserError
from josh_pipeline.evaluation.gate import Gate
from josh_pipeline.home import open_home
from josh_pipeline.ids import derived_seed
from josh_pipeline.progress import TerminalProgress
from josh_pipeline.search.harvest import harvest
from josh_pipeline.search.rows import KtoRow
from josh_pipeline.settings import KtoSettings
from josh_pipeline.stages.cold_start import settle
from josh_pipeline.stages.drift import drift_record
from josh_pipeline.stages.episodes import Player, played
from josh_pipeline.stages.evaluation import GATE, comparison, gate_of
from josh_pipeline.stages.goals import played_kind
from josh_pipeline.stages.policy import PolicyRow, iterating_policy, policy_digest
from josh_pipeline.stages.preferences import row_length, without_long
from josh_pipeline.stages.selection import evaluation_goals
from josh_pipeline.stages.step import Step, iteration_key, start_step
from josh_pipeline.stages.trees import stored_trees
from josh_pipeline.training.run import train

LABELS = ("true", "shuffled")


def labelled(step: Step, policy: PolicyRow, labels: str, seed: int) -> list[KtoRow]:
    """Return the KTO rows of the iteration's trees, labels shuffled among them where asked for."""
    trees = stored_trees(step.warehouse, policy.iteration)
    harvested = harvest(trees, "kto", step.settings.harvest.mode, frozenset())
    kept = without_long(harvested, row_length(step, policy.base_path), step.settings.training.max_tokens)
    rows = [row for row in kept.rows if isinstance(row, KtoRow)]
    if labels == "true":
        return rows
    drawn = [row.desirable for row in rows]
    random.Random(seed).shuffle(drawn)
    return [replace(row, desirable=label) for row, label in zip(rows, drawn, strict=True)]


def judged(step: Step, policy: PolicyRow, rows: Sequence[KtoRow], rate: float, seed: int) -> Gate:
    """Train on rows and return what the gate sees of the candidate."""
    shared = step.settings.training
    settings = KtoSettings(
        learning_rate=rate, epochs=shared.epochs, max_tokens=shared.max_tokens, lora=shared.lora,
        start=shared.start, threads=shared.threads,
    )  # fmt: skip
    before = Player(policy.policy_digest, policy.adapter_path, "before")
    previous = step.home.absolute(policy.adapter_path) if policy.adapter_path else None
    result = train(
        rows, step.home.absolute(policy.base_path), previous, step.home.training, settings, seed,
        step.progress, step.settings.policy.quantization,
    )  # fmt: skip
    adapter = settle(result.adapter, step.home.adapters / result.digest, result.adapter.parent)
    digest, path = policy_digest(policy.base_digest, result.digest), step.home.relative(adapter)
    goals = evaluation_goals(
        step.warehouse, policy.goals_scope, played_kind(step), GATE, step.settings.evaluation.val_goals
    )
    sides = [played(step, policy, player, goals) for player in (before, Player(digest, path, "after"))]
    reward = comparison(step, GATE, "reward", *sides)
    drift = drift_record(step, policy, digest, path)
    return gate_of(asdict(reward), drift["drift"], drift["max_drift"])


def main() -> int:
    """Make what is missing and print all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--home", required=True, type=Path)
    parser.add_argument("--iteration", type=int, default=1)
    parser.add_argument("--rate", type=float, default=3e-4)
    options: Any = parser.parse_args()
    quiet_libraries()
    home = open_home(options.home)
    key = iteration_key(options.iteration)
    folder = home.root / "experiments"
    folder.mkdir(exist_ok=True)
    file = folder / f"shuffled-labels-{key}.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    done = {(line["labels"], line["rate"]): line for line in lines}
    try:
        with TerminalProgress() as progress:
            step = start_step(home, home.settings("", {}), f"shuffled-labels-{key}", progress)
            policy = iterating_policy(step, key)
            seed = derived_seed("training", step.settings.seed, key, policy.attempt)
            for labels in LABELS:
                if (labels, options.rate) in done:
                    continue
                rows = labelled(step, policy, labels, seed)
                gate = judged(step, policy, rows, options.rate, seed)
                line = {"labels": labels, "rate": options.rate, "rows": len(rows)} | asdict(gate)
                with file.open("a") as sink:
                    sink.write(json.dumps(line) + "\n")
                done[labels, options.rate] = line
    except UserError as fault:
        print(fault, file=sys.stderr)
        return 1
    for (labels, rate), line in done.items():
        gate = Gate(**{name: value for name, value in line.items() if name not in ("labels", "rate", "rows")})
        verdict = "promoted" if gate.passed else "refused"
        print(f"{labels} labels, {line['rows']} rows, rate {rate:g}: {verdict}. {gate.sentence}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
