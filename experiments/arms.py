"""What the trees of one iteration teach, by method: SFT, KTO and DPO side by side, and the control arm.

    python experiments/arms.py --home .josh --iteration 1 [--arms sft kto dpo control]
    python experiments/arms.py --home .josh --iteration 3 --arms from_base replay --rates 3e-4

Each arm harvests the same trees its own way and trains from the same weights for the same number of epochs,
once at each learning rate of its grid. The rate is chosen on the goals of role `val`; the best of each arm
then plays those of role `test`. The control arm is SFT on random conversations out of the same trees, as
many as there are golden paths, whatever they earned: is it the reward that teaches, or only more training
on the model's own words?

The arm `turns` is SFT as `harvest.mode: turns` harvests it, without turns that called in vain.

Beside them stands the iteration's own candidate, where it has been trained; conversations that its evaluation
has held are not held again.

Two more arms train otherwise: `full` trains all weights by SFT, with no adapter; `srpg` is the policy gradient on what
the search sampled, for which the trees have to hold its log-probabilities.

In a later iteration two more arms ask where to start. `sft` trains on the iteration's golden paths from
where the iteration's settings say, the policy that searched (as the candidate was); `from_base` on the same
rows from the base's weights; `replay` from the base's weights on the rows of all iterations so far.

Results are appended to experiments/arms-ITERATION.jsonl in the home as they come; a rerun makes only what
is missing, and prints the table and what is unfinished, also of a run that was stopped. The iteration's own
settings hold, and lines of another attempt or of before a rerun are left alone.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal

from common import Experiment, options_of, run

from josh_pipeline.core.environment import Role
from josh_pipeline.evaluation.statistics import paired_bootstrap, wilson
from josh_pipeline.harvest.harvest import harvest_unfiltered, with_earlier
from josh_pipeline.harvest.rows import Row
from josh_pipeline.settings.training import BUILT_IN_SETTINGS, TrainingBase
from josh_pipeline.stages.policy import policy_behind, policy_of
from josh_pipeline.stages.rollouts import stored_trees
from josh_pipeline.stages.stage import Step

Arm = Literal["sft", "turns", "kto", "dpo", "control", "full", "srpg", "from_base", "replay"]
METHODS: tuple[Arm, ...] = ("sft", "kto", "dpo", "control")

RATES: Mapping[Arm, tuple[float, ...]] = {
    "sft": (1e-4, 3e-4, 1e-3),
    "turns": (1e-4, 3e-4, 1e-3),
    "kto": (1e-4, 3e-4, 1e-3),
    "dpo": (3e-5, 1e-4, 3e-4),
    "control": (1e-4, 3e-4, 1e-3),
    "full": (1e-5, 3e-5, 1e-4),
    "srpg": (3e-5, 1e-4, 3e-4),
    "from_base": (1e-4, 3e-4, 1e-3),
    "replay": (1e-4, 3e-4, 1e-3),
}
"""Learning rates that each arm is tried at."""

ROLES: tuple[Role, ...] = ("val", "test")


@dataclass(frozen=True)
class Result:
    """One line of the results.

    Attributes:
        rate: learning rate; None for what was not trained here: the policy before, the iteration's candidate.
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


class Arms(Experiment):
    """The arms of one iteration."""

    name: ClassVar[str] = "arms"

    def __init__(
        self, step: Step, key: str, arms: Sequence[Arm] = METHODS, rates: Sequence[float] | None = None
    ) -> None:
        super().__init__(step, key)
        self.rates = {arm: tuple(rates or RATES[arm]) for arm in arms}
        self.results = {result.key: result for result in (Result(**line) for line in self.kept())}

    def result(self, result: Result) -> Result:
        """Append a result."""
        self.keep(asdict(result))
        self.results[result.key] = result
        return result

    def rows(self, arm: Arm) -> Sequence[Row]:
        """Harvest the trees for an arm."""
        if arm == "replay":
            return self.rows_so_far()
        if arm == "control":
            # All of them are drawn: those that are too long leave, and the arm has to stay as large.
            every = sum(len(tree.nodes) for tree in self.trees)
            drawn = self.fitting(harvest_unfiltered(self.trees, every, self.seed, frozenset()))
            return drawn[: len(self.harvested(self.trees, "sft"))]
        return self.harvested(self.trees, method_of(arm), "turns" if arm == "turns" else None)

    def rows_so_far(self) -> Sequence[Row]:
        """The golden paths of this iteration and of all before it on its line."""
        earlier = []
        before = self.policy.predecessor
        while before is not None and not (older := policy_of(self.step.warehouse, before)).is_baseline:
            earlier.append(self.harvested(stored_trees(self.step.warehouse, before), "sft"))
            before = older.predecessor
        return with_earlier(self.harvested(self.trees, "sft"), earlier)

    def settings(self, arm: Arm, rate: float) -> TrainingBase:
        """The iteration's training settings, as the arm changes them."""
        changes: dict[Arm, dict[str, Any]] = {
            "full": {"lora": None},
            "from_base": {"start": "base"},
            "replay": {"start": "base"},
        }
        return self.training_settings(method_of(arm), rate).model_copy(update=changes.get(arm, {}))

    def tried(self, arm: Arm, rate: float) -> Result:
        """Train an arm at one rate, and play the validation goals."""
        if (done := self.results.get((arm, rate, "val"))) is not None:
            return done
        rows = self.rows(arm)
        player, seconds = self.trained(rows, self.settings(arm, rate))
        rewards = self.play(player.policy_digest, player.adapter_path, f"{arm} at {rate:g}", "val")
        found = Result(arm, rate, len(rows), seconds, player.policy_digest, player.adapter_path, "val", rewards)
        return self.result(found)

    def tested(self, best: Result) -> Result:
        """Play the test goals with the best of an arm."""
        if (done := self.results.get((best.arm, best.rate, "test"))) is not None:
            return done
        rewards = self.play(best.digest, best.adapter, f"{best.arm} at its best rate", "test")
        return self.result(replace(best, role="test", rewards=rewards))

    def before(self, role: Role) -> Result:
        """Play the goals with the policy that searched."""
        if (done := self.results.get(("before", None, role))) is not None:
            return done
        digest, adapter = self.policy.policy_digest, self.policy.adapter_path
        rewards = self.play(digest, adapter, "before", role)
        return self.result(Result("before", None, 0, 0.0, digest, adapter, role, rewards))

    def candidate(self, role: Role) -> Result | None:
        """Play the goals with what the iteration itself trained; None where it has not come to that."""
        adapter_of = self.step.warehouse.current("adapter", self.key)
        made_by = policy_behind(self.step.warehouse, adapter_of) if adapter_of else None
        if adapter_of is None or made_by is None or made_by.identity != self.policy.identity:
            return None
        training = self.step.warehouse.written("trainings", adapter_of)[0]
        digest, adapter = training["policy_digest"], training["adapter_path"]
        done = self.results.get(("candidate", None, role))
        if done is not None and done.digest == digest:
            return done
        rewards = self.play(digest, adapter, "the candidate", role)
        made = training["rows"], training["seconds"]
        return self.result(Result("candidate", None, *made, digest, adapter, role, rewards))

    def play(self, digest: str, adapter: str | None, shown: str, role: Role) -> list[float]:
        """Return the reward of each goal, played with a policy on the iteration's base."""
        player = replace(self.policy, policy_digest=digest, adapter_path=adapter)
        return [episode.reward for episode in self.episodes(player, shown, role)]

    def work(self) -> None:
        """Make what is missing."""
        for role in ROLES:
            self.before(role)
            self.candidate(role)
        for arm, rates in self.rates.items():
            tried = [self.tried(arm, rate) for rate in rates]
            self.tested(max(tried, key=lambda result: result.mean_reward))

    def table(self) -> Iterator[str]:
        """Lines of two Markdown tables, of what is there."""
        for role in ROLES:
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
        tested = {arm for arm, _, role in self.results if role == "test"}
        for arm, rates in self.rates.items():
            missing = [f"{rate:g}" for rate in rates if (arm, rate, "val") not in self.results]
            if missing:
                yield f"Unfinished: {arm} at {', '.join(missing)}."
            elif arm not in tested:
                yield f"Unfinished: {arm} on the test goals."

    def gain(self, old: Result | None, new: Result) -> str:
        """The paired difference in success with its interval; empty without another arm to compare with."""
        if old is None or old.digest == new.digest:
            return ""
        resamples = self.step.settings.evaluation.bootstrap
        gain = paired_bootstrap(old.successes, new.successes, resamples=resamples)
        return f"{100 * gain.diff:+.1f} [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"


def method_of(arm: Arm) -> str:
    """How an arm trains."""
    return arm if arm in BUILT_IN_SETTINGS else "sft"


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the arms and print the table, also of an interrupted run."""
    parser = options_of(__doc__)
    parser.add_argument("--arms", nargs="+", choices=tuple(RATES), default=METHODS)
    parser.add_argument("--rates", nargs="+", type=float, help="(default: three for each arm)")
    options = parser.parse_args(arguments)
    return run(Arms, options, arms=options.arms, rates=options.rates)


if __name__ == "__main__":
    sys.exit(main())
