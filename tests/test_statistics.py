"""Statistics, held against published values and against what they claim."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from josh_pipeline.evaluation.statistics import paired_bootstrap, paired_values, pass_hat_k, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),  # ibidem
        (0, 20, 0.0000, 0.1611),  # ibidem
        (1, 29, 0.0061, 0.1718),  # ibidem
    ],
)
def test_wilson_gives_the_published_intervals(successes: int, n: int, low: float, high: float) -> None:
    interval = wilson(successes, n)
    assert interval.low == pytest.approx(low, abs=6e-5)
    assert interval.high == pytest.approx(high, abs=6e-5)


def test_wilson_of_nothing_is_everything_and_impossible_counts_are_refused() -> None:
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)
    with pytest.raises(ValueError, match="5 successes out of 4"):
        wilson(5, 4)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_rate_and_mirrors_failures(case: tuple[int, int]) -> None:
    successes, n = case
    interval, mirrored = wilson(successes, n), wilson(n - successes, n)
    assert 0 <= interval.low <= successes / n <= interval.high <= 1
    assert interval.low == pytest.approx(1 - mirrored.high, abs=1e-12)


def test_the_paired_bootstrap_agrees_with_the_normal_theory_of_paired_differences() -> None:
    generator = np.random.default_rng(3)
    before = generator.normal(0.4, 0.3, 400)
    after = before + generator.normal(0.1, 0.2, 400)
    found = paired_bootstrap(before.tolist(), after.tolist(), seed=1)
    error = 1.96 * (after - before).std() / np.sqrt(400)
    assert found.n == 400
    assert found.diff == pytest.approx((after - before).mean())
    assert found.low == pytest.approx(found.diff - error, abs=0.002)
    assert found.high == pytest.approx(found.diff + error, abs=0.002)
    assert found.low > 0


def test_equal_seeds_give_equal_intervals_and_a_constant_gain_has_no_width() -> None:
    before, after = [0.0, 0.5, 1.0, 0.25, 0.0], [0.5, 0.5, 1.0, 0.0, 1.0]
    assert paired_bootstrap(before, after, 1_500, seed=7) == paired_bootstrap(before, after, 1_500, seed=7)
    shifted = paired_bootstrap(before, [x + 0.25 for x in before], 200)
    assert (shifted.low, shifted.diff, shifted.high) == (0.25, 0.25, 0.25)


def test_about_five_in_a_hundred_intervals_miss_a_difference_of_zero() -> None:
    generator = np.random.default_rng(11)
    missed = 0
    for seed in range(300):
        before, after = generator.random((2, 80))
        found = paired_bootstrap(before.tolist(), after.tolist(), 500, seed)
        missed += found.low > 0 or found.high < 0
    assert 4 <= missed <= 30


def test_values_are_paired_by_goal_whatever_their_order() -> None:
    before, after = paired_values({"b": 0.0, "a": 1.0}, {"a": 0.5, "b": 1.0})
    assert (before, after) == ((1.0, 0.0), (0.5, 1.0))
    with pytest.raises(ValueError, match="differ in 2 goals"):
        paired_values({"a": 1.0, "b": 1.0}, {"a": 1.0, "c": 1.0})
    with pytest.raises(ValueError, match="cannot be paired"):
        paired_bootstrap([], [])


def test_pass_hat_k_counts_the_ways_to_draw_k_successes() -> None:
    # Two goals, four trials each, with 4 and 2 successes: pass^2 = (6/6 + 1/6) / 2.
    assert pass_hat_k([4, 2], trials=4, k=1) == pytest.approx(0.75)
    assert pass_hat_k([4, 2], trials=4, k=2) == pytest.approx(7 / 12)
    assert pass_hat_k([4, 2], trials=4, k=4) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="cannot be"):
        pass_hat_k([4, 2], trials=4, k=5)
