"""The gate: whether a candidate becomes the next policy.

Two questions, both answered by numbers. Has it got worse at its task? Only where the whole 95 % interval
of the paired difference in mean reward, on goals that no other step looks at, lies below zero: chance alone
then stops one candidate in forty that is as good as before. Has it forgotten what it could do beside the
task? Where its drift from the foundation is above the limit in the settings.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from josh_pipeline.core.errors import ErrorKind
from josh_pipeline.evaluation.benchmark import Episode

NOT_THE_POLICY: tuple[ErrorKind, ...] = ("endpoint", "timeout", "user", "world", "budget")
"""Failures that say nothing about a policy's words."""


@dataclass(frozen=True)
class Gate:
    """What the gate looks at.

    Attributes:
        n: validation goals, paired.
        before, after: the two mean rewards on them.
        difference, low, high: after minus before, with its 95 % paired bootstrap interval.
        drift: from the foundation, in nats a token; None where it cannot be measured.
        max_drift: the limit.
    """

    n: int
    before: float
    after: float
    difference: float
    low: float
    high: float
    drift: float | None
    max_drift: float

    @property
    def regressed(self) -> bool:
        """The evaluation shows a regression."""
        return self.high < 0

    @property
    def forgot(self) -> bool:
        """The candidate has drifted too far from the foundation."""
        return self.drift is not None and too_far(self.drift, self.max_drift)

    @property
    def passed(self) -> bool:
        """The candidate is promoted."""
        return not self.regressed and not self.forgot

    @property
    def regression_sentence(self) -> str:
        """What the evaluation shows, with its numbers."""
        shown = "a regression" if self.regressed else "a gain" if self.low > 0 else "no regression"
        return (
            f"Mean reward on {self.n} validation goals went from {self.before:.3f} to {self.after:.3f} "
            f"({self.difference:+.3f} [{self.low:+.3f}, {self.high:+.3f}]): {shown}."
        )

    @property
    def sentence(self) -> str:
        """Why the candidate is promoted or refused."""
        return f"{self.regression_sentence} {drift_sentence(self.drift, self.max_drift)}"


def undisturbed(before: Sequence[Episode], after: Sequence[Episode]) -> tuple[list[Episode], list[Episode]]:
    """Leave out the goals whose conversation, on either side, something else than the policy broke off."""
    broken = {one.goal_id for one in (*before, *after) if one.failure in NOT_THE_POLICY}
    first, second = ([one for one in side if one.goal_id not in broken] for side in (before, after))
    return first, second


def too_far(drift: float, max_drift: float) -> bool:
    """Say whether a drift is not within its limit."""
    # Not the same as greater: a model that diverged drifts by nan.
    return not drift <= max_drift


def drift_sentence(drift: float | None, max_drift: float) -> str:
    """Say how far a policy drifted, and whether that is too far."""
    if drift is None:
        return "Drift from the foundation was not measured."
    found = f"Drift from the foundation: {drift:.3f} nats a token"
    if too_far(drift, max_drift):
        return f"{found}, not within {max_drift:g} (evaluation.max_drift)."
    return f"{found}, within {max_drift:g}."
