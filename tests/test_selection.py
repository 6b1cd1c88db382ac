"""Which goals a round searches: those that its line has searched least, and of these what the policy missed."""

from collections import Counter
from dataclasses import replace

import pytest
from finished_home import finished_home, step_of

from josh_pipeline.core.content import content_id
from josh_pipeline.core.environment import Task, WantedCall
from josh_pipeline.search.selection import rollout_goals
from josh_pipeline.stages.failures import missed_before
from josh_pipeline.stages.goals import played_before, solvable_goals
from josh_pipeline.stages.playing import environment_of
from josh_pipeline.stages.policy import policy_of
from josh_pipeline.stages.registry import BY_NAME
from josh_pipeline.stages.stage import Step


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> Step:
    home = finished_home(tmp_path_factory.mktemp("finished"), right=0.5)
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


def lone(name: str, tool: str) -> Task:
    return Task(name, name, "", "train", "task", name, (), (WantedCall(tool, {}),), None)


def test_goals_that_want_a_tool_which_was_missed_are_drawn_before_the_others_by_as_many_misses() -> None:
    goals = [lone(f"{tool}{i}", tool) for tool in ("find", "book") for i in range(500)]
    even, some, most = (
        [goal.calls[0].tool for goal in rollout_goals(goals, 200, set(), 0, {}, missed)].count("book")
        for missed in ({}, {"book": 3}, {"book": 9, "find": 0})
    )
    assert 80 < even < 120 < some < most < 200
    everyone = {goal.goal_id for goal in rollout_goals(goals, 1000, set(), 0, {}, {"book": 9})}
    assert len(everyone) == 1000, "what nobody missed is drawn, too"


def test_what_was_missed_changes_nothing_of_who_was_played_least() -> None:
    goals = [lone("a", "find"), lone("b", "book")]
    assert [g.goal_id for g in rollout_goals(goals, 2, set(), 0, {"b": 1}, {"book": 1000})] == ["a", "b"]


def test_without_misses_the_order_is_that_of_the_goals_hashes_as_ever() -> None:
    goals = [lone(f"goal{i}", "find") for i in range(200)]
    found = [goal.goal_id for goal in rollout_goals(goals, 200, set(), 7, {}, {})]
    assert found == sorted(found, key=lambda name: content_id("order", ("rollout", 7, 0), name))


def test_what_the_policy_missed_is_counted_on_the_gate_s_goals_in_the_evaluation_that_promoted_it(step: Step) -> None:
    policy = policy_of(step.warehouse, "002")
    missed = missed_before(step.warehouse, environment_of(step, policy), policy)
    lost = step.warehouse.rows(
        "SELECT count(*) AS n FROM current_episodes WHERE iteration = '001' AND side = 'after' AND role = 'val' "
        "AND NOT success"
    )
    assert missed == {"search_attraction": lost[0]["n"]} and lost[0]["n"] > 0


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


def test_the_rollouts_tell_where_their_search_got_stuck(step: Step) -> None:
    made = BY_NAME["rollouts"].run(step, "001")
    unsolved = step.warehouse.rows(
        "SELECT count(*) AS trees FROM current_trees WHERE iteration = '001' AND reward < 1"
    )[0]["trees"]
    leaves = step.warehouse.rows(
        "SELECT count(*) AS n FROM current_nodes n JOIN current_trees t USING (iteration, rollout_id) "
        "WHERE iteration = '001' AND t.reward < 1 AND n.ended IS NOT NULL"
    )[0]["n"]
    assert 0 < made.facts["siblings that differ"] <= 1
    ends, missed = made.tables.values()
    assert sum(row["leaves"] for row in ends) == leaves
    assert [row["missed"] for row in missed] == ([unsolved] if unsolved else []), "an attraction wants one search"
