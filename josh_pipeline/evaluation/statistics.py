"""Statistics of a benchmark: intervals, paired differences, and pass^k.

Rewards of conversations are paired by goal: both policies play the same goals with the same seeds, so
the difference of two means is taken goal by goal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb, sqrt

import numpy as np

Z_95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""

RESAMPLES_AT_ONCE = 1_000
"""Resamples drawn in one block: at 1,000 goals a block of indexes takes 8 MB."""


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A paired difference of two means, after minus before.

    Attributes:
        n: pairs.
        diff: mean of the pairs' differences.
        low, high: 95 % percentile bootstrap interval of it.
    """

    n: int
    diff: float
    low: float
    high: float


def wilson(successes: float, n: int) -> Interval:
    """Return the 95 % Wilson score interval of a proportion (Wilson 1927); [0, 1] where n is 0.

    Args:
        successes: may be a fraction, where each of the n is a mean of several trials.
        n: independent observations.

    Raises:
        ValueError: successes lie outside 0..n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes out of {n} cannot be")
    if n == 0:
        return Interval(0.0, 1.0)
    p = successes / n
    spread = Z_95 * sqrt(p * (1 - p) / n + Z_95**2 / (4 * n**2))
    shrink = 1 + Z_95**2 / n
    centre = p + Z_95**2 / (2 * n)
    low = 0.0 if successes == 0 else (centre - spread) / shrink
    high = 1.0 if successes == n else (centre + spread) / shrink
    return Interval(low, high)


def bootstrap(values: Sequence[float], resamples: int = 10_000, seed: int = 0) -> Interval:
    """Bootstrap the mean of values: its 2.5 % and 97.5 % percentiles over the resamples.

    Args:
        values: at least one.
        resamples: how often the values are drawn again, with replacement.
        seed: of the draws; equal seeds give equal intervals.
    """
    found = np.asarray(values, dtype=np.float64)
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    for begin in range(0, resamples, RESAMPLES_AT_ONCE):
        end = min(begin + RESAMPLES_AT_ONCE, resamples)
        drawn = generator.integers(0, len(found), size=(end - begin, len(found)))
        means[begin:end] = found[drawn].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(low), float(high))


def paired_bootstrap(
    before: Sequence[float], after: Sequence[float], resamples: int = 10_000, seed: int = 0
) -> Difference:
    """Bootstrap the difference of the means of paired values.

    Args:
        before, after: values of the same goals in the same order.
        resamples, seed: see ``bootstrap``.

    Returns:
        The mean difference with its 95 % interval.

    Raises:
        ValueError: the sequences differ in length, or are empty.
    """
    if len(before) != len(after) or not before:
        raise ValueError(f"{len(before)} values before and {len(after)} after cannot be paired")
    differences = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    interval = bootstrap(differences.tolist(), resamples, seed)
    return Difference(len(differences), float(differences.mean()), interval.low, interval.high)


def paired_values(
    before: Mapping[str, float], after: Mapping[str, float]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Pair two policies' values by key (goal, or goal and trial), in sorted order of the keys.

    Raises:
        ValueError: the keys differ; scores over different goals are not comparable.
    """
    if before.keys() != after.keys():
        only = len(before.keys() ^ after.keys())
        raise ValueError(f"the two evaluations differ in {only} goals and cannot be paired")
    keys = sorted(before)
    return tuple(before[k] for k in keys), tuple(after[k] for k in keys)


def pass_hat_k(successes: Sequence[int], trials: int, k: int) -> float:
    """Estimate pass^k: the chance that k independent trials of one goal all succeed (τ-bench).

    Args:
        successes: how many of its trials succeeded, a number a goal.
        trials: trials of every goal.
        k: 1..trials.

    Returns:
        The mean over goals of C(successes, k) / C(trials, k), unbiased.

    Raises:
        ValueError: k or a number of successes is impossible, or there is no goal.
    """
    if not successes or not 1 <= k <= trials or not all(0 <= s <= trials for s in successes):
        raise ValueError(f"pass^{k} of {len(successes)} goals with {trials} trials each cannot be")
    return sum(comb(s, k) for s in successes) / (comb(trials, k) * len(successes))
