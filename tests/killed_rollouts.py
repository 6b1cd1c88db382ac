"""A run of 50 scripted rollouts into a store; a test starts it, kills it, and starts it again.

Run: python tests/killed_rollouts.py STORE LONGEST_DELAY
"""

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

from fakes import PrizeWorld, ScriptedPolicy, TinyAgent, TinyUser, choosing

from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.search.codec import node_records, tree_record
from josh_pipeline.search.rollouts import rollouts
from josh_pipeline.search.spending import Ledger
from josh_pipeline.search.tree import Tree
from josh_pipeline.settings import SearchSettings
from josh_pipeline.stages.registry import LAYOUT
from josh_pipeline.store.warehouse import Warehouse

GOALS = 50


@dataclass(frozen=True)
class Wish:
    """A goal: prizes to win."""

    goal_id: str
    prizes: str


MARKS = {"run_id": "run", "simulated_user": "tiny", "seconds": 0.0}


def main(store: Path, delay: float) -> None:
    """Search what is owed, and say each tree that is durable."""
    warehouse = Warehouse(store, LAYOUT)

    def write(trees: list[Tree]) -> None:
        rows = [tree_record(tree) | MARKS for tree in trees]
        nodes = [record for tree in trees for record in node_records(tree)]
        warehouse.append({"trees": rows, "nodes": nodes}, key="rollout_id")
        for tree in trees:
            print(tree.rollout_id, flush=True)

    goals = [Wish(f"goal {number}", "abc"[: number % 3 + 1]) for number in range(GOALS)]
    stored = {row["goal_id"] for row in warehouse.rows("SELECT goal_id FROM trees")}
    answers = choosing("GET a", "GET b", "GET a b", "GET x", "?", "hello", "well", "hm")
    asyncio.run(
        rollouts(
            goals,
            lambda wish: PrizeWorld(wish.prizes),
            lambda wish, seed, meter: TinyUser(),
            ScriptedPolicy(answers, delay=delay),
            TinyAgent(),
            SearchSettings(in_flight=8, max_rounds=5),
            settings_digest="settings",
            seed=1,
            attempt=0,
            owed=dict.fromkeys((goal.goal_id for goal in goals if goal.goal_id not in stored), 0),
            checkpoint=write,
            progress=SilentProgress(),
            ledger=Ledger(),
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
