"""What the experiments share: one iteration with its own settings, a file of results, and how they end."""

import argparse
import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from pydantic import TypeAdapter

from josh_pipeline.cli.options import quiet_libraries
from josh_pipeline.core.content import derived_seed
from josh_pipeline.core.environment import Environment, Role, Task
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.progress import Progress, TerminalProgress
from josh_pipeline.evaluation.benchmark import Episode
from josh_pipeline.harvest.harvest import HarvestResult, Mode, counted, harvest, without_long
from josh_pipeline.harvest.rows import Row
from josh_pipeline.policies.weights import policy_digest
from josh_pipeline.search.tree import Tree
from josh_pipeline.settings import merged
from josh_pipeline.settings.training import TrainingBase, TrainingSettings
from josh_pipeline.stages.cold_start import settle
from josh_pipeline.stages.goals import evaluated_goals
from josh_pipeline.stages.playing import environment_of, played_episodes
from josh_pipeline.stages.policy import PolicyRow, iterating_policy, with_adapter
from josh_pipeline.stages.preferences import row_length
from josh_pipeline.stages.registry import open_home
from josh_pipeline.stages.rollouts import stored_trees
from josh_pipeline.stages.stage import Step, iteration_key, recorded_run, recorded_settings, start_step
from josh_pipeline.store.home import Home
from josh_pipeline.training.methods import method_class
from josh_pipeline.training.run import train

INTERRUPTED = 130


class Experiment(ABC):
    """Work on the trees of one iteration, a line of results at a time.

    Each line says which policy and which generation of rollouts it is about: those of another attempt, or
    of before a rerun, are left alone.

    Args:
        step: with the settings that the iteration itself was searched with.
        key: of the iteration.
    """

    name: ClassVar[str]

    def __init__(self, step: Step, key: str) -> None:
        self.step = step
        self.key = key
        self.policy: PolicyRow = iterating_policy(step, key)
        rollouts = step.require("rollouts", key)
        self.about = {"policy": self.policy.policy_digest, "rollouts": rollouts.number}
        self.folder = step.home.root / "experiments"
        self.folder.mkdir(exist_ok=True)
        self.file = self.folder / f"{self.name}-{key}.jsonl"

    @cached_property
    def trees(self) -> Sequence[Tree]:
        """The iteration's trees."""
        return stored_trees(self.step.warehouse, self.key)

    @property
    def seed(self) -> int:
        """What the iteration's own training draws with."""
        return derived_seed("training", self.step.settings.seed, self.key, self.policy.attempt)

    def kept(self) -> Iterator[dict[str, Any]]:
        """Yield the lines that are about these trees."""
        for text in self.file.read_text().splitlines() if self.file.is_file() else ():
            line = json.loads(text)
            if {name: line.pop(name, None) for name in self.about} == self.about:
                yield line

    def keep(self, line: dict[str, Any]) -> None:
        """Append a line."""
        with self.file.open("a") as sink:
            sink.write(json.dumps(self.about | line) + "\n")

    @cached_property
    def environment(self) -> Environment[Any]:
        """What the iteration plays in."""
        return environment_of(self.step, self.policy)

    def goals(self, role: Role) -> list[Task]:
        """The goals that the iteration is evaluated on."""
        return evaluated_goals(self.step, self.policy.goals_scope, self.environment)[role]

    def episodes(self, player: PolicyRow, shown: str, role: Role) -> list[Episode]:
        """Play those goals with a policy."""
        return played_episodes(self.step, player, self.environment, self.goals(role), shown)

    def harvested(self, trees: Sequence[Tree], method: str, mode: Mode | None = None) -> tuple[Row, ...]:
        """The rows of a method that training takes; harvested as the iteration was, or in another mode."""
        mode = mode or self.step.settings.harvest.mode
        return self.fitting(harvest(trees, method, method_class(method).kind, mode, frozenset()))

    def fitting(self, harvested: HarvestResult) -> tuple[Row, ...]:
        """Leave rows out that training would have to cut."""
        tokens = row_length(self.step.home, self.policy.base_path)
        return without_long(counted(harvested, tokens), self.step.settings.training.max_tokens).rows

    def training_settings(self, method: str, rate: float) -> TrainingBase:
        """The iteration's training settings at another rate, or those of another method."""
        own = self.step.settings.training.model_dump()
        values = merged({"training": own}, {"training": {"method": method}})["training"]
        if method == "kto" and not values["packed"]:
            values.setdefault("sft_weight", 0.0)  # which TRL's own KTO does not have
        settings: TrainingBase = TypeAdapter(TrainingSettings).validate_python(values | {"learning_rate": rate})
        return settings

    def trained(self, rows: Sequence[Row], settings: TrainingBase) -> tuple[PolicyRow, float]:
        """Train from the iteration's policy; returns the candidate, and the seconds it took.

        The adapter lies among the results: no table knows it, so ``josh gc`` would not spare it elsewhere.
        """
        home, policy = self.step.home, self.policy
        result = train(
            rows,
            home.absolute(policy.base_path),
            home.absolute(policy.adapter_path) if policy.adapter_path else None,
            home.training,
            settings,
            self.seed,
            self.step.progress,
            self.step.settings.policy.quantization,
        )
        place = self.folder / "adapters" / result.digest
        adapter = settle(result.adapter, place, result.adapter.parent)
        digest = policy_digest(policy.base_digest, result.digest)
        made = {"policy_digest": digest, "adapter_digest": result.digest, "adapter_path": home.relative(adapter)}
        return with_adapter(policy, made), result.seconds

    @abstractmethod
    def work(self) -> None:
        """Make what is missing."""

    @abstractmethod
    def table(self) -> Iterator[str]:
        """Lines that say what is there, and what is unfinished."""


def options_of(about: str | None) -> argparse.ArgumentParser:
    """Return the options that every experiment has."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--home", required=True, type=Path)
    parser.add_argument("--iteration", type=int, default=1)
    return parser


def opened(home: Home, name: str, key: str, progress: Progress) -> Step:
    """Open an iteration with the settings that it was searched with, whatever the home has run since.

    Raises:
        UserError: it has not been searched, or another release did.
    """
    settings = recorded_settings(recorded_run(home.warehouse(), "rollouts", key))
    return start_step(home, settings, f"{name}-{key}", progress)


def run(kind: type[Experiment], options: argparse.Namespace, **more: Any) -> int:
    """Do an experiment's work and print its table, also of a run that was stopped.

    Args:
        more: further arguments of ``kind``.

    Returns:
        The exit status: 0, 1 after a mistake that a person can mend, or 130 after Ctrl-C.
    """
    quiet_libraries()
    experiment = None
    status = 0
    try:
        with TerminalProgress() as progress:
            key = iteration_key(options.iteration)
            step = opened(open_home(options.home), kind.name, key, progress)
            experiment = kind(step, key, **more)
            experiment.work()
    except UserError as fault:
        print(f"{kind.name}: {fault}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        print(f"{kind.name}: stopped; the same command goes on from here.", file=sys.stderr)
        status = INTERRUPTED
    finally:
        if experiment is not None:
            print("\n".join(experiment.table()))
    return status
