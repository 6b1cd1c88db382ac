"""The gate: what it refuses, and that its sentence holds the numbers that decided."""

from dataclasses import asdict, replace
from math import nan

import pytest

from josh_pipeline.core.environment import Role
from josh_pipeline.core.errors import ErrorKind, UserError
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.evaluation.benchmark import Episode
from josh_pipeline.evaluation.gate import Gate, undisturbed
from josh_pipeline.evaluation.statistics import paired_bootstrap
from josh_pipeline.search.tree import Usage
from josh_pipeline.settings import load_settings
from josh_pipeline.stages.evaluation import Side, compared, gate_of
from josh_pipeline.stages.stage import Step

GATE = Gate(60, 0.55, 0.5, difference=-0.05, low=-0.12, high=0.02, drift=0.7, max_drift=1.5)


def gate_between(before: list[float], after: list[float]) -> Gate:
    found = paired_bootstrap(before, after)
    means = sum(before) / len(before), sum(after) / len(after)
    return Gate(found.n, *means, found.diff, found.low, found.high, drift=0.1, max_drift=1.5)


def test_only_an_interval_wholly_below_zero_is_a_regression() -> None:
    good = [float(i < 60) for i in range(100)]
    bad = [float(i < 30) for i in range(100)]
    slightly = [0.0, *good[1:]]
    worse = gate_between(good, bad)
    assert worse.regressed and not worse.passed
    assert worse.sentence.startswith(
        "Mean reward on 100 validation goals went from 0.600 to 0.300 (-0.300 [-0.390, -0.210]): a regression."
    )
    assert gate_between(bad, good).passed and "a gain" in gate_between(bad, good).sentence
    for other in (slightly, good):
        found = gate_between(good, other)
        assert found.passed and "no regression" in found.sentence


@pytest.mark.parametrize(
    ("drift", "passed", "words"),
    [
        (0.7, True, "Drift from the foundation: 0.700 nats a token, within 1.5."),
        (1.51, False, "Drift from the foundation: 1.510 nats a token, not within 1.5 (evaluation.max_drift)."),
        (nan, False, "Drift from the foundation: nan nats a token, not within 1.5 (evaluation.max_drift)."),
        (None, True, "Drift from the foundation was not measured."),
    ],
)
def test_drift_above_the_limit_is_refused_and_what_cannot_be_measured_is_not(
    drift: float | None, passed: bool, words: str
) -> None:
    found = replace(GATE, drift=drift)
    assert found.passed is passed
    assert found.sentence.endswith(words)


def held(goal: str, failure: ErrorKind | None = None, reward: float = 0.5) -> Episode:
    return Episode(
        episode_id=goal, goal_id=goal, policy_digest="p", seed=0, settings_digest="s", trial=0, messages=(),
        calls=(), earned=(), reward=reward, turns=4, error_turns=0, user_done=failure is None,
        failure=failure, failure_message=failure, usage=Usage(),
    )  # fmt: skip


def test_what_a_server_broke_off_on_one_side_is_left_out_on_both() -> None:
    before = [held("a"), held("b", "timeout"), held("c"), held("d", "context_length")]
    after = [held("a"), held("b"), held("c", "user"), held("d")]
    sides = undisturbed(before, after)
    assert [[one.goal_id for one in side] for side in sides] == [["a", "d"]] * 2


def outage(broken: int) -> dict[tuple[Side, Role], list[Episode]]:
    """Ten goals of each role that both sides play alike, but for those that a server broke off after."""
    before = [held(str(number)) for number in range(10)]
    after = [held(str(number), "endpoint", 0.0) for number in range(broken)] + before[broken:]
    roles: tuple[Role, ...] = ("val", "test")
    return {(side, role): found for role in roles for side, found in (("before", before), ("after", after))}  # type: ignore[misc]


def test_an_outage_is_no_regression_and_too_long_a_one_is_no_decision() -> None:
    step = Step(None, None, load_settings("quickstart"), "run", SilentProgress())  # type: ignore[arg-type]
    found = {(one.role, one.metric): one for one in compared(step.settings, outage(2))}
    gate, test = found["val", "reward"], found["test", "reward"]
    assert (gate.n, gate.difference, test.n) == (8, 0.0, 10)
    assert test.difference < 0 and not gate_of(asdict(gate), 0.1, 1.5).regressed
    with pytest.raises(UserError, match="3 of the 10 validation goals"):
        compared(step.settings, outage(3))
