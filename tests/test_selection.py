"""Which goals a round searches: those that its line has searched least."""

from collections import Counter
from dataclasses import replace

import pytest
from finished_home import finished_home, step_of

from josh_pipeline.search.selection import rollout_goals
from josh_pipeline.stages.goals import played_before, solvable_goals
from josh_pipeline.stages.playing import environment_of
from josh_pipeline.stages.policy import policy_of
from josh_pipeline.stages.stage import Step


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> Step:
    home = finished_home(tmp_path_factory.mktemp("finished"))
    return step_of(home, home.settings("", {}), "look")


def searched(step: Step, iteration: str) -> list[str]:
    found = step.warehouse.rows("SELECT goal_id FROM current_trees WHERE iteration = ? ORDER BY position", [iteration])
    return [row["goal_id"] for row in found]


def chosen(step: Step, number: int, played: dict[str, int]) -> list[str]:
    policy = policy_of(step.warehouse, "001")
    environment = environment_of(step, policy)
    known = solvable_goals(step.warehouse, policy.goals_scope, environment, "part")
    goals = rollout_goals(known, number, set(), step.settings.seed, played, {})
    return [goal.goal_id for goal in goals]


def test_a_round_searches_goals_that_the_rounds_before_it_did_not(step: Step) -> None:
    first, second = searched(step, "001"), searched(step, "002")
    assert len(first) == len(second) == 8 and not set(first) & set(second)


def test_what_was_played_before_is_counted_up_to_the_attempt_itself(step: Step) -> None:
    policies = [policy_of(step.warehouse, key) for key in ("001", "002")]
    coming = replace(policies[1], iteration="003")
    played = [played_before(step.warehouse, policy) for policy in (*policies, coming)]
    assert played[0] == {}
    assert played[1] == dict.fromkeys(searched(step, "001"), 1)
    assert played[2] == dict.fromkeys(searched(step, "001") + searched(step, "002"), 1)


def test_goals_come_again_when_all_were_played_equally_often_and_not_before(step: Step) -> None:
    everything = chosen(step, 10_000, {})
    rounds: list[str] = []
    for number in (5, 3, 7, 4) * len(everything):
        rounds += chosen(step, number, dict(Counter(rounds)))
        times = Counter(rounds)
        assert max(times.values()) - min(times[goal] for goal in everything) <= 1
        if len(rounds) > 2 * len(everything):
            break
    assert len(everything) > 15 and len(set(rounds)) == len(everything)
