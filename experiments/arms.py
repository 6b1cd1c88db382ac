"""What the trees of one iteration teach, by method: SFT, KTO and DPO side by side, and the control arm.

    python experiments/arms.py --home .josh --iteration 1 [--arms sft kto dpo control]
    python experiments/arms.py --home .josh --iteration 3 --arms sft from_base replay

Each arm harvests the same trees its own way and trains from the same weights for the same number of epochs,
once at each learning rate of its grid. The rate is chosen on the goals of role `val`; the best of each arm
then plays those of role `test`. The control arm is SFT on random conversations out of the same trees, as
many as there are golden paths, whatever they earned: is it the reward that teaches, or only more training
on the model's own words?

In a later iteration two more arms ask where to start. `sft` trains on the iteration's golden paths from
where the iteration's settings say, the policy that searched; `from_base` on the same rows from the base's
weights; `replay` from the base's weights on the rows of all iterations so far.

Results are appended to experiments/arms-ITERATION.jsonl in the home as they come; a rerun makes only what
is missing, and prints the table and what is unfinished.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from josh_pipeline.commands.options import quiet_libraries
from josh_pipeline.errors import UserError
from josh_pipeline.evaluation.episode import Episode
from josh_pipeline.evaluation.statistics import paired_bootstrap, wilson
from josh_pipeline.home import open_home
from josh_pipeline.ids import derived_seed
from josh_pipeline.progress import TerminalProgress
from josh_pipeline.search.harvest import harvest, harvest_unfiltered
from josh_pipeline.search.rows import Method, Row
from josh_pipeline.search.tree import Tree
from josh_pipeline.settings import TrainingSettings
from josh_pipeline.stages.cold_start import settle
from josh_pipeline.stages.episodes import Player, played
from josh_pipeline.stages.goals import played_kind
from josh_pipeline.stages.policy import PolicyRow, iterating_policy, policy_digest
from josh_pipeline.stages.preferences import row_length, training_rows, without_long
from josh_pipeline.stages.selection import evaluation_goals
from josh_pipeline.stages.step import Step, iteration_key, start_step
from josh_pipeline.stages.trees import stored_trees
from josh_pipeline.toolwoz.roles import Role
from josh_pipeline.training.run import train

Arm = Literal["sft", "kto", "dpo", "control", "from_base", "replay"]
METHODS: tuple[Arm, ...] = ("sft", "kto", "dpo", "control")

RATES: Mapping[Arm, tuple[float, ...]] = {
    "sft": (1e-4, 3e-4, 1e-3),
    "kto": (1e-4, 3e-4, 1e-3),
    "dpo": (3e-5, 1e-4, 3e-4),
    "control": (1e-4, 3e-4, 1e-3),
    "from_base": (1e-4, 3e-4, 1e-3),
    "replay": (1e-4, 3e-4, 1e-3),
}
"""Learning rates that each arm is tried at."""

MESSAGE_BATCH = 16
"""Rows a step of KTO and DPO, which count messages one by one; a golden path holds about four of them."""


@dataclass(frozen=True)
class Result:
    """One line of the results.

    Attributes:
        rate: learning rate; None for the policy before.
        rows, seconds: of the training.
        adapter: path in the home, None for the policy before.
        role: of the goals that it played.
        rewards: by goal, in the order of the goals.
    """

    arm: str
    rate: float | None
    rows: int
    seconds: float
    digest: str
    adapter: str | None
    role: Role
    rewards: list[float]

    @property
    def key(self) -> tuple[str, float | None, Role]:
        """What no two lines share."""
        return self.arm, self.rate, self.role

    @property
    def mean_reward(self) -> float:
        """Over the goals."""
        return sum(self.rewards) / len(self.rewards)

    @property
    def successes(self) -> list[float]:
        """1 for each goal with full reward."""
        return [float(reward == 1.0) for reward in self.rewards]


class Experiment:
    """The arms of one iteration, and the file of their results."""

    def __init__(self, step: Step, key: str) -> None:
        self.step = step
        self.policy: PolicyRow = iterating_policy(step, key)
        self.seed = derived_seed("training", step.settings.seed, key, self.policy.attempt)
        self.key = key
        folder = step.home.root / "experiments"
        folder.mkdir(exist_ok=True)
        self.file = folder / f"arms-{key}.jsonl"
        lines = self.file.read_text().splitlines() if self.file.is_file() else []
        self.results = {result.key: result for result in (Result(**json.loads(line)) for line in lines)}

    @cached_property
    def trees(self) -> Sequence[Tree]:
        """The iteration's trees."""
        return stored_trees(self.step.warehouse, self.key)

    def keep(self, result: Result) -> Result:
        """Append a line."""
        with self.file.open("a") as sink:
            sink.write(json.dumps(asdict(result)) + "\n")
        self.results[result.key] = result
        return result

    def rows(self, arm: Arm) -> Sequence[Row]:
        """Harvest the trees for an arm."""
        tokens = row_length(self.step, self.policy.base_path)
        mode = self.step.settings.harvest.mode
        limit = self.step.settings.training.max_tokens
        if arm == "replay":
            return self.rows_so_far()
        if arm == "control":
            golden = without_long(harvest(self.trees, "sft", mode, frozenset()), tokens, limit)
            drawn = harvest_unfiltered(self.trees, len(golden.rows), self.seed, frozenset())
            return without_long(drawn, tokens, limit).rows
        method: Method = "sft" if arm == "from_base" else arm
        return without_long(harvest(self.trees, method, mode, frozenset()), tokens, limit).rows

    def rows_so_far(self) -> Sequence[Row]:
        """The golden paths of this iteration and of all before it on its line."""
        settings = self.step.settings
        replaying = settings.harvest.model_copy(update={"replay": int(self.key)})
        step = replace(self.step, settings=settings.model_copy(update={"harvest": replaying}))
        return training_rows(step, self.policy)[0]

    def settings(self, arm: Arm, rate: float) -> TrainingSettings:
        """The iteration's training settings, as far as the arm's method knows them."""
        shared = self.step.settings.training
        names = ("epochs", "batch_size", "schedule", "warmup", "max_tokens", "start", "threads")
        values = {name: getattr(shared, name) for name in names} | {"lora": shared.lora.model_dump()}
        values |= {"learning_rate": rate, "method": arm if arm in ("kto", "dpo") else "sft"}
        if arm in ("kto", "dpo"):
            values["batch_size"] = MESSAGE_BATCH
        if arm in ("from_base", "replay"):
            values["start"] = "base"
        settings: TrainingSettings = TypeAdapter(TrainingSettings).validate_python(values)
        return settings

    def trained(self, arm: Arm, rate: float) -> Result:
        """Train an arm at one rate, and play the validation goals."""
        if (done := self.results.get((arm, rate, "val"))) is not None:
            return done
        step, policy = self.step, self.policy
        rows = self.rows(arm)
        result = train(
            rows,
            step.home.absolute(policy.base_path),
            step.home.absolute(policy.adapter_path) if policy.adapter_path else None,
            step.home.training,
            self.settings(arm, rate),
            self.seed,
            step.progress,
            step.settings.policy.quantization,
        )
        adapter = settle(result.adapter, step.home.adapters / result.digest, result.adapter.parent)
        digest = policy_digest(policy.base_digest, result.digest)
        path = step.home.relative(adapter)
        rewards = self.play(Player(digest, path, f"{arm} at {rate:g}"), "val")
        return self.keep(Result(arm, rate, len(rows), result.seconds, digest, path, "val", rewards))

    def tested(self, best: Result) -> Result:
        """Play the test goals with the best of an arm."""
        if (done := self.results.get((best.arm, best.rate, "test"))) is not None:
            return done
        rewards = self.play(Player(best.digest, best.adapter, f"{best.arm} at its best rate"), "test")
        return self.keep(Result(**(asdict(best) | {"role": "test", "rewards": rewards})))

    def before(self, role: Role) -> Result:
        """Play the goals with the policy that searched."""
        if (done := self.results.get(("before", None, role))) is not None:
            return done
        digest, adapter = self.policy.policy_digest, self.policy.adapter_path
        rewards = self.play(Player(digest, adapter, "before"), role)
        return self.keep(Result("before", None, 0, 0.0, digest, adapter, role, rewards))

    def play(self, player: Player, role: Role) -> list[float]:
        """Return the reward of each goal."""
        evaluation = self.step.settings.evaluation
        number = evaluation.test_goals if role == "test" else evaluation.val_goals
        scope = self.policy.goals_scope
        goals = evaluation_goals(self.step.warehouse, scope, played_kind(self.step), role, number)
        episodes: list[Episode] = played(self.step, self.policy, player, goals)
        return [episode.reward for episode in episodes]

    def table(self, arms: Sequence[Arm]) -> Iterator[str]:
        """Lines of two Markdown tables, of what is there."""
        for role in ("val", "test"):
            before = self.results.get(("before", None, role))
            if before is None:
                continue
            yield f"\nRole {role}, n = {len(before.rewards)}; gains are paired, in points of success:\n"
            yield "| arm | rate | rows | seconds | success | mean reward | over before | over control |"
            yield "|---|---|---|---|---|---|---|---|"
            found = [result for result in self.results.values() if result.role == role]
            controls = [result for result in found if result.arm == "control"]
            # On val several controls stand there, one a rate; on test the best of them.
            control = controls[0] if role == "test" and controls else None
            for result in found:
                yield f"{described(result)} | {self.gain(before, result)} | {self.gain(control, result)} |"
        for arm in arms:
            missing = [rate for rate in RATES[arm] if (arm, rate, "val") not in self.results]
            if missing:
                yield f"Unfinished: {arm} at {', '.join(f'{rate:g}' for rate in missing)}."

    def gain(self, old: Result | None, new: Result) -> str:
        """The paired difference in success with its interval; empty without another arm to compare with."""
        if old is None or old.digest == new.digest:
            return ""
        resamples = self.step.settings.evaluation.bootstrap
        gain = paired_bootstrap(old.successes, new.successes, resamples=resamples)
        return f"{100 * gain.diff:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"


def described(result: Result) -> str:
    """The first cells of a result's line."""
    rate = f"{result.rate:g}" if result.rate else ""
    number = len(result.rewards)
    interval = wilson(sum(result.successes), number)
    success = f"{100 * sum(result.successes) / number:.1f} %"
    return (
        f"| {result.arm} | {rate} | {result.rows} | {result.seconds:.0f} | {success} "
        f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}] | {result.mean_reward:.3f}"
    )


def run(experiment: Experiment, arms: Sequence[Arm]) -> None:
    """Make what is missing."""
    experiment.before("val")
    experiment.before("test")
    for arm in arms:
        tried = [experiment.trained(arm, rate) for rate in RATES[arm]]
        experiment.tested(max(tried, key=lambda result: result.mean_reward))


def main() -> int:
    """Run the arms and print the table, also of an interrupted run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--home", required=True, type=Path)
    parser.add_argument("--iteration", type=int, default=1)
    parser.add_argument("--arms", nargs="+", choices=tuple(RATES), default=METHODS)
    options: Any = parser.parse_args()
    quiet_libraries()
    home = open_home(options.home)
    key = iteration_key(options.iteration)
    try:
        with TerminalProgress() as progress:
            experiment = Experiment(start_step(home, home.settings("", {}), f"arms-{key}", progress), key)
            run(experiment, options.arms)
    except UserError as fault:
        print(f"arms: {fault}", file=sys.stderr)
        return 1
    print("\n".join(experiment.table(options.arms)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
