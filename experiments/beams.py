"""What a wider beam finds and what it costs: the goals of one iteration searched at beam 1, 2, 4 and 8.

    python experiments/beams.py --home .josh --iteration 1

The same policy, goals, users and sampling as the iteration's own rollouts; only ``beam_size`` changes.
Results are appended to experiments/beams-ITERATION.jsonl in the home; a rerun searches only the beams that
are missing, and prints the table.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from josh_pipeline.commands.options import quiet_libraries
from josh_pipeline.dialogue.agents.factory import make_agent
from josh_pipeline.errors import UserError
from josh_pipeline.home import open_home
from josh_pipeline.ids import derived_seed
from josh_pipeline.progress import TerminalProgress
from josh_pipeline.search.harvest import harvest
from josh_pipeline.search.rollouts import RolloutSummary, rollouts
from josh_pipeline.search.rows import Method
from josh_pipeline.search.spending import Ledger
from josh_pipeline.search.tree import Tree
from josh_pipeline.stages.goals import played_kind, stored_goals
from josh_pipeline.stages.playing import open_table, rollout_digest
from josh_pipeline.stages.policy import PolicyRow, iterating_policy
from josh_pipeline.stages.step import Step, iteration_key, start_step
from josh_pipeline.stages.trees import stored_trees
from josh_pipeline.toolwoz.goal import Goal

BEAMS = (1, 2, 4, 8)
METHODS: tuple[Method, ...] = ("sft", "kto", "dpo")
COLUMNS = (
    "beam", "goals", "full", "any", "mean_reward", "nodes", "sft_rows", "kto_rows", "dpo_rows",
    "requests", "completion_tokens", "seconds",
)  # fmt: skip


def searched_goals(step: Step, key: str, policy: PolicyRow) -> list[Goal]:
    """The goals of the iteration's trees, in their order."""
    known = stored_goals(step.warehouse, policy.goals_scope, kind=played_kind(step), role="train")
    by_id = {goal.goal_id: goal for goal in known}
    return [by_id[tree.goal_id] for tree in stored_trees(step.warehouse, key)]


async def search(step: Step, key: str, beam: int) -> tuple[RolloutSummary, list[Tree]]:
    """Search the iteration's goals at another beam."""
    policy = iterating_policy(step, key)
    settings = step.settings.model_copy(
        update={"search": step.settings.search.model_copy(update={"beam_size": beam})}
    )
    goals = searched_goals(step, key, policy)
    trees: list[Tree] = []
    async with open_table(
        step, policy, goals, digest=policy.policy_digest, adapter_path=policy.adapter_path, inside_search=True
    ) as table:
        summary = await rollouts(
            goals,
            table.world,
            table.user,
            table.policy,
            make_agent(settings.policy.agent, settings.policy.results),
            settings.search,
            settings_digest=rollout_digest(settings),
            seed=derived_seed("iteration", settings.seed, key),
            attempt=policy.attempt,
            done=(),
            checkpoint=trees.extend,
            progress=step.progress,
            ledger=Ledger(),
            task=f"Beam {beam}",
        )
    order = {goal.goal_id: position for position, goal in enumerate(goals)}
    return summary, sorted(trees, key=lambda tree: order[tree.goal_id])


def measured(step: Step, key: str, beam: int) -> dict[str, Any]:
    """Search at one beam and count what it gave and cost."""
    summary, trees = asyncio.run(search(step, key, beam))
    mode = step.settings.harvest.mode
    harvests = {method: harvest(trees, method, mode, frozenset()) for method in METHODS}
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


def table(results: Mapping[int, Mapping[str, Any]], beams: Sequence[int]) -> Iterator[str]:
    """Lines of a Markdown table."""
    yield f"| {' | '.join(name.replace('_', ' ') for name in COLUMNS)} |"
    yield "|" + "---|" * len(COLUMNS)
    for beam in beams:
        if beam in results:
            values = (results[beam][name] for name in COLUMNS)
            shown = (f"{value:.3f}" if 0 < value < 1 else f"{value:.0f}" for value in values)
            yield f"| {' | '.join(shown)} |"
    missing = [str(beam) for beam in beams if beam not in results]
    if missing:
        yield f"Unfinished: beam {', '.join(missing)}."


def main() -> int:
    """Search what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--home", required=True, type=Path)
    parser.add_argument("--iteration", type=int, default=1)
    options = parser.parse_args()
    quiet_libraries()
    home = open_home(options.home)
    key = iteration_key(options.iteration)
    file = home.root / "experiments" / f"beams-{key}.jsonl"
    file.parent.mkdir(exist_ok=True)
    lines = file.read_text().splitlines() if file.is_file() else []
    results = {value["beam"]: value for value in map(json.loads, lines)}
    try:
        with TerminalProgress() as progress:
            step = start_step(home, home.settings("", {}), f"beams-{key}", progress)
            for beam in BEAMS:
                if beam not in results:
                    results[beam] = measured(step, key, beam)
                    with file.open("a") as sink:
                        sink.write(json.dumps(results[beam]) + "\n")
    except UserError as fault:
        print(f"beams: {fault}", file=sys.stderr)
        return 1
    print("\n".join(table(results, BEAMS)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
