"""What a wider beam finds and what it costs: the goals of one iteration searched at beam 1, 2, 4 and 8.

    python experiments/beams.py --home .josh --iteration 1

The same policy, goals, users and sampling as the iteration's own rollouts; only ``beam_size`` changes.
Results are appended to experiments/beams-ITERATION.jsonl in the home; a rerun searches only the beams that
are missing, and prints the table, also of a run that was stopped. The iteration's own settings hold, and
lines of another attempt or of before a rerun are left alone.
"""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from common import Experiment, options_of, run

from josh_pipeline.core.content import derived_seed
from josh_pipeline.core.environment import Task
from josh_pipeline.evaluation.playing import open_table
from josh_pipeline.harvest.harvest import harvest
from josh_pipeline.search.rollouts import RolloutSummary
from josh_pipeline.search.spending import Ledger
from josh_pipeline.search.tree import Tree
from josh_pipeline.settings import METHODS
from josh_pipeline.stages.goals import played_goals
from josh_pipeline.stages.playing import weights
from josh_pipeline.stages.stage import Step
from josh_pipeline.training.methods import method_class

BEAMS = (1, 2, 4, 8)
COLUMNS = (
    "beam", "goals", "full", "any", "mean_reward", "nodes", "sft_rows", "kto_rows", "dpo_rows",
    "requests", "completion_tokens", "seconds",
)  # fmt: skip


class Beams(Experiment):
    """One iteration's goals, searched at several beams."""

    name: ClassVar[str] = "beams"

    def __init__(self, step: Step, key: str) -> None:
        super().__init__(step, key)
        self.results = {line["beam"]: line for line in self.kept()}

    def searched_goals(self) -> list[Task]:
        """The goals of the iteration's trees, in their order."""
        known = played_goals(self.step.warehouse, self.policy.goals_scope, self.environment, "train")
        by_id = {goal.goal_id: goal for goal in known}
        return [by_id[tree.goal_id] for tree in self.trees]

    async def search(self, beam: int) -> tuple[RolloutSummary, list[Tree]]:
        """Search the iteration's goals at another beam."""
        step, policy = self.step, self.policy
        search = step.settings.search.model_copy(update={"beam_size": beam})
        settings = step.settings.model_copy(update={"search": search})
        goals = self.searched_goals()
        seed = derived_seed("iteration", settings.seed, self.key)
        trees: list[Tree] = []
        files = weights(step.home, policy)
        async with open_table(settings, self.environment, files, policy.policy_digest) as table:
            summary = await table.search(goals, seed, policy.attempt, trees.extend, step.progress, Ledger())
        order = {goal.goal_id: position for position, goal in enumerate(goals)}
        return summary, sorted(trees, key=lambda tree: order[tree.goal_id])

    def measured(self, beam: int) -> dict[str, Any]:
        """Search at one beam and count what it gave and cost."""
        summary, trees = asyncio.run(self.search(beam))
        mode = self.step.settings.harvest.mode
        harvests = {method: harvest(trees, method, method_class(method).kind, mode, frozenset()) for method in METHODS}
        return {
            "beam": beam,
            "goals": len(trees),
            "full": sum(tree.reward == 1.0 for tree in trees),
            "any": sum(tree.reward > 0 for tree in trees),
            "mean_reward": summary.mean_reward,
            "nodes": sum(len(tree.nodes) - 1 for tree in trees),
            **{f"{method}_rows": len(found.rows) for method, found in harvests.items()},
            "requests": summary.usage.requests,
            "completion_tokens": summary.usage.completion_tokens,
            "seconds": summary.usage.seconds,
        }

    def work(self) -> None:
        """Search at the beams that are missing."""
        for beam in BEAMS:
            if beam not in self.results:
                found = self.measured(beam)
                self.keep(found)
                self.results[beam] = found

    def table(self) -> Iterator[str]:
        """Lines of a Markdown table."""
        yield f"| {' | '.join(name.replace('_', ' ') for name in COLUMNS)} |"
        yield "|" + "---|" * len(COLUMNS)
        for beam in sorted(self.results):
            values = (self.results[beam][name] for name in COLUMNS)
            shown = (f"{value:.3f}" if 0 < value < 1 else f"{value:.0f}" for value in values)
            yield f"| {' | '.join(shown)} |"
        missing = [str(beam) for beam in BEAMS if beam not in self.results]
        if missing:
            yield f"Unfinished: beam {', '.join(missing)}."


def main(arguments: Sequence[str] | None = None) -> int:
    """Search what is missing and print the table, also of an interrupted run."""
    return run(Beams, options_of(__doc__).parse_args(arguments))


if __name__ == "__main__":
    sys.exit(main())
