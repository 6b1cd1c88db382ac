"""One of several processes that materialize iterations of one home at the same time.

Run: python tests/line_worker.py HOME PROFILE ITERATION SECONDS. Until the time is up it materializes policy,
rollouts, labels and rows of the iteration through Dagster, each time with another seed, and prints a line of
JSON for each time: what is then in the store.
"""

import json
import sys
import time

import pytest
from tiny_loop import play_with

from assets.launch import instance_of, run_job
from josh_pipeline.stages.registry import open_home

HARVEST = ["policy", "beam_rollouts", "reward_labels", "preference_pairs"]
TABLES = {"rollouts": "rollouts", "labels": "labels", "preferences": "preference_rows"}
"""Stage to the table in which its rows are counted."""


def main(root: str, profile: str, iteration: str, seconds: float) -> None:
    """Materialize until the time is up; each line of output is true when it is printed."""
    home = open_home(root)
    warehouse = home.warehouse()
    settings = home.settings(profile)
    end = time.monotonic() + seconds
    seed = 0
    with instance_of(home) as instance:
        while seed == 0 or time.monotonic() < end:
            seed += 1
            digest = home.keep_settings(settings.model_copy(update={"seed": seed}))
            run_job(instance, "iteration", digest, iteration, HARVEST)
            for stage, table in TABLES.items():
                generation = warehouse.current(stage, iteration)
                assert generation is not None
                rows = warehouse.rows(
                    f"SELECT count(*) AS n FROM {table} WHERE iteration = ? AND generation = ?",
                    [iteration, generation.number],
                )[0]["n"]
                said = {"table": table, "iteration": iteration, "generation": generation.number, "rows": rows}
                print(json.dumps(said), flush=True)


if __name__ == "__main__":
    play_with(pytest.MonkeyPatch(), lambda digest: 0.8)
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
