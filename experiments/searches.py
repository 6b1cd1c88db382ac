"""What other settings of the search find and what they cost, on the goals of one iteration.

    python experiments/searches.py --home .josh --search "beam_size: 4" --search "beam_size: 4, restarts: 2"

Each ``--search`` changes some of the iteration's own search settings; policy, goals and users stay. Results are
appended to experiments/searches-ITERATION.jsonl in the home; a rerun searches only what is missing, and prints
the table, also of a run that was stopped. The iteration's own settings hold, and lines of another attempt or of
before a rerun are left alone.
"""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import yaml
from common import Experiment, options_of, run
from pydantic import ValidationError

from josh_pipeline.core.content import derived_seed
from josh_pipeline.core.environment import Task
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.faults import faults_of
from josh_pipeline.evaluation.playing import open_table
from josh_pipeline.harvest.harvest import harvest
from josh_pipeline.search.rollouts import RolloutSummary
from josh_pipeline.search.shape import shape_of
from josh_pipeline.search.spending import Ledger
from josh_pipeline.search.tree import Tree
from josh_pipeline.settings import SearchSettings
from josh_pipeline.stages.environment import stored_tasks
from josh_pipeline.stages.playing import weights
from josh_pipeline.stages.stage import Step
from josh_pipeline.training.methods import method_class

COUNTED = ("sft", "kto", "dpo")
"""Methods whose rows are counted: those that ask no log-probabilities of the trees."""
COLUMNS = (
    "search", "goals", "full", "any", "mean_reward", "nodes", "distinct", "sft_rows", "kto_rows", "dpo_rows",
    "requests", "sampled_tokens", "solved_per_1000_tokens", "seconds",
)  # fmt: skip


class Searches(Experiment):
    """One iteration's goals, searched in several ways.

    Args:
        searches: what each changes, as YAML without braces.
    """

    name: ClassVar[str] = "searches"

    def __init__(self, step: Step, key: str, searches: Sequence[str]) -> None:
        super().__init__(step, key)
        self.searches = {search: self.settings_of(search) for search in searches}
        self.results = {line["search"]: line for line in self.kept()}

    def settings_of(self, search: str) -> SearchSettings:
        """The iteration's search settings with some changed.

        Raises:
            UserError: there is no such setting, or its value is wrong.
        """
        try:
            changed = self.step.settings.search.model_dump() | (yaml.safe_load("{" + search + "}") or {})
            return SearchSettings.model_validate(changed)
        except (yaml.YAMLError, ValidationError) as fault:
            form = "write it as 'beam_size: 4, restarts: 2'"
            why = faults_of(fault, SearchSettings) if isinstance(fault, ValidationError) else form
            raise UserError(f"--search {search!r}: {why}.") from None

    def searched_goals(self) -> list[Task]:
        """The goals of the iteration's trees, in their order."""
        ids = [tree.goal_id for tree in self.trees]
        known = stored_tasks(self.step.warehouse, self.policy.goals_scope, of=self.environment.Task, ids=ids)
        by_id = {goal.goal_id: goal for goal in known}
        return [by_id[name] for name in ids]

    async def search(self, search: SearchSettings) -> tuple[RolloutSummary, list[Tree]]:
        """Search the iteration's goals with other settings."""
        step, policy = self.step, self.policy
        settings = step.settings.model_copy(update={"search": search})
        goals = self.searched_goals()
        seed = derived_seed("iteration", settings.seed, self.key)
        trees: list[Tree] = []
        files = weights(step.home, policy)
        async with open_table(settings, self.environment, files, policy.policy_digest) as table:
            summary = await table.search(goals, seed, policy.attempt, trees.extend, step.progress, Ledger())
        order = {goal.goal_id: position for position, goal in enumerate(goals)}
        return summary, sorted(trees, key=lambda tree: order[tree.goal_id])

    def measured(self, search: str) -> dict[str, Any]:
        """Search in one way and count what it gave and cost."""
        summary, trees = asyncio.run(self.search(self.searches[search]))
        full, tokens = sum(tree.reward == 1.0 for tree in trees), summary.usage.completion_tokens
        mode = self.step.settings.harvest.mode
        harvests = {method: harvest(trees, method, method_class(method).kind, mode, frozenset()) for method in COUNTED}
        return {
            "search": search,
            "goals": len(trees),
            "full": full,
            "any": sum(tree.reward > 0 for tree in trees),
            "mean_reward": summary.mean_reward,
            "nodes": sum(len(tree.nodes) - 1 for tree in trees),
            "distinct": shape_of(trees, {goal.goal_id: goal for goal in self.searched_goals()}).distinct,
            **{f"{method}_rows": len(found.rows) for method, found in harvests.items()},
            "requests": summary.usage.requests,
            "sampled_tokens": tokens,
            "solved_per_1000_tokens": 1000 * full / tokens if tokens else 0.0,
            "seconds": summary.usage.seconds,
        }

    def work(self) -> None:
        """Search in the ways that are missing."""
        for search in [one for one in self.searches if one not in self.results]:
            found = self.measured(search)
            self.keep(found)
            self.results[search] = found

    def table(self) -> Iterator[str]:
        """Lines of a Markdown table."""
        yield f"| {' | '.join(name.replace('_', ' ') for name in COLUMNS)} |"
        yield "|" + "---|" * len(COLUMNS)
        for result in self.results.values():
            values = (result[name] for name in COLUMNS)
            yield f"| {' | '.join(f'{v:.3f}' if isinstance(v, float) and v < 10 else str(v) for v in values)} |"
        if missing := [search for search in self.searches if search not in self.results]:
            yield f"Unfinished: {'; '.join(missing)}."


def main(arguments: Sequence[str] | None = None) -> int:
    """Search what is missing and print the table, also of an interrupted run."""
    parser = options_of(__doc__)
    parser.add_argument("--search", action="append", default=[], help="settings that differ, e.g. 'beam_size: 4'")
    options = parser.parse_args(arguments)
    return run(Searches, options, searches=options.search)


if __name__ == "__main__":
    sys.exit(main())
