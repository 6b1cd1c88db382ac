"""The control arm of an iteration: the same training on as many *unfiltered* rollouts.

Is it the reward that teaches, or only more training on the model's own conversations? From the trees that
an iteration of a home searched, this draws as many conversations as the harvest had rows, whatever they
earned, trains with the same settings and seed, plays the same test goals, and prints the paired
differences: control arm - before, and JOSH - control arm.

    python benchmarks/control_arm.py --home .josh --iteration 1
"""

import argparse
import shutil
import sys

from josh_pipeline.commands.options import quiet_libraries
from josh_pipeline.errors import UserError
from josh_pipeline.evaluation.episode import Episode
from josh_pipeline.evaluation.statistics import paired_bootstrap
from josh_pipeline.home import open_home
from josh_pipeline.ids import derived_seed
from josh_pipeline.progress import TerminalProgress
from josh_pipeline.search.harvest import harvest_unfiltered
from josh_pipeline.search.rows import SftRow
from josh_pipeline.stages.cold_start import settle
from josh_pipeline.stages.episodes import Player, played
from josh_pipeline.stages.goals import played_kind
from josh_pipeline.stages.policy import iterating_policy, policy_digest
from josh_pipeline.stages.preferences import stored_rows
from josh_pipeline.stages.selection import evaluation_goals
from josh_pipeline.stages.step import Step, iteration_key, start_step
from josh_pipeline.stages.trees import stored_trees
from josh_pipeline.training.run import train


def main() -> int:
    """Train, play and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--home", required=True)
    parser.add_argument("--iteration", type=int, default=1)
    options = parser.parse_args()
    quiet_libraries()
    home = open_home(options.home)
    key = iteration_key(options.iteration)
    try:
        with TerminalProgress() as progress:
            step = start_step(home, home.settings("", {}), f"control-arm-{key}", progress)
            compare(step, key)
    except UserError as fault:
        print(f"control_arm: {fault}", file=sys.stderr)
        return 1
    return 0


def compare(step: Step, key: str) -> None:
    """Print the three scores and the paired differences."""
    policy = iterating_policy(step, key)
    training = step.warehouse.rows("SELECT * FROM current_trainings WHERE iteration = ?", [key])[0]
    control = train_control(step, key)
    goals = evaluation_goals(
        step.warehouse, policy.goals_scope, played_kind(step), "test", step.settings.evaluation.test_goals
    )
    arms = {
        "before": Player(policy.policy_digest, policy.adapter_path, "before"),
        "control": control,
        "JOSH": Player(training["policy_digest"], training["adapter_path"], "JOSH"),
    }
    episodes = {name: played(step, policy, player, goals) for name, player in arms.items()}
    for name, found in episodes.items():
        success, reward = (mean(found, metric) for metric in ("success", "reward"))
        print(f"{name:8} n={len(found)}  success {100 * success:5.1f} %  mean reward {reward:.3f}")
    for later, earlier in (("control", "before"), ("JOSH", "control")):
        old, new = ([float(e.success) for e in episodes[name]] for name in (earlier, later))
        gain = paired_bootstrap(old, new, resamples=step.settings.evaluation.bootstrap)
        interval = f"[{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"
        print(f"success, {later} - {earlier}: {100 * gain.diff:+.1f} points {interval}")


def train_control(step: Step, key: str) -> Player:
    """Train on random conversations of the iteration's trees, as many as the harvest had rows."""
    policy = iterating_policy(step, key)
    rows = stored_rows(step.warehouse, key)
    if not rows or not isinstance(rows[0], SftRow):
        raise UserError("The control arm stands beside SFT: this iteration has no SFT rows.")
    seed = derived_seed("training", step.settings.seed, key, policy.attempt)
    drawn = harvest_unfiltered(stored_trees(step.warehouse, key), len(rows), seed, frozenset())
    print(f"control arm: {len(drawn.rows)} unfiltered conversations; harvest: {len(rows)} golden paths")
    partial = step.home.adapters / "partial-control"
    shutil.rmtree(partial, ignore_errors=True)
    result = train(
        drawn.rows,
        step.home.absolute(policy.base_path),
        step.home.absolute(policy.adapter_path) if policy.adapter_path else None,
        partial,
        step.settings.training,
        seed,
        step.progress,
        step.settings.policy.quantization,
    )
    adapter = settle(result.adapter, step.home.adapters / result.digest, partial)
    name = policy_digest(policy.base_digest, result.digest)
    return Player(name, step.home.relative(adapter), "control arm")


def mean(episodes: list[Episode], metric: str) -> float:
    """Return the mean of one figure."""
    return sum(float(getattr(episode, metric)) for episode in episodes) / len(episodes)


if __name__ == "__main__":
    sys.exit(main())
