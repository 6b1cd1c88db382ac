"""All that a report shows, as plain data; where it came from is the business of ``load``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from josh_pipeline.core.messages import Conversation
from josh_pipeline.environments.toolwoz.goal import Goal
from josh_pipeline.evaluation.drift import Drift
from josh_pipeline.evaluation.summary import Breakdown
from josh_pipeline.report.tree_data import DrawnTree

GoalKind = Literal["parts", "whole"]
Metric = Literal["reward", "success"]


@dataclass(frozen=True)
class PolicyScore:
    """One policy on one set of goals; a line of the score table.

    Attributes:
        iteration: the iteration that made it; its line's first for the policy that the line starts from.
        attempt: of that iteration.
        superseded: it was refused, and the iteration has made another attempt since.
        policy: its digest.
        name: for people: ``cold start``, ``JOSH round 1``, ...
        corpus: name of the corpus.
        goals: whether they are parts or whole goals.
        role: ``val`` or ``test``; of other benchmarks what was selected, e.g. ``test (all)``.
        n, reward, success, low, high: see ``evaluation.summary.Score``.
        promoted: None for what a line starts from, and while the gate has not spoken.
        trees, full_trees, rows: what it was trained on; None where it was not trained by a round.
        by_domain, by_tool, by_act, errors, turns, error_turns, faulty_calls, faults: see
            ``evaluation.summary.Score``.
        pass_k: pass^1, pass^2, ...; one where every goal was played once.
    """

    iteration: int
    attempt: int
    superseded: bool
    policy: str
    name: str
    corpus: str
    goals: GoalKind
    role: str
    n: int
    reward: float
    success: float
    low: float
    high: float
    promoted: bool | None
    trees: int | None
    full_trees: int | None
    rows: int | None
    by_domain: tuple[Breakdown, ...]
    by_tool: tuple[Breakdown, ...]
    by_act: tuple[Breakdown, ...]
    errors: Mapping[str, int]
    turns: float
    error_turns: float
    faulty_calls: float
    faults: Mapping[str, int]
    pass_k: tuple[float, ...]


@dataclass(frozen=True)
class PolicyDrift:
    """How far a policy has drifted from the foundation.

    Attributes:
        name: of the policy.
        drift: None where it could not be measured.
        max_drift: the limit for a candidate.
        reason: why there is no drift.
    """

    iteration: int
    name: str
    drift: Drift | None
    max_drift: float
    reason: str | None


@dataclass(frozen=True)
class Decision:
    """What the gate decided on a candidate, and why."""

    iteration: int
    name: str
    promoted: bool
    reason: str


@dataclass(frozen=True)
class Comparison:
    """Two policies on the same goals with the same users, after minus before.

    Attributes:
        before, after: the policies' names.
        metric: what the means are of.
        n: paired goals.
        mean_before, mean_after: the two means.
        difference, low, high: with its 95 % paired bootstrap interval.
        won, lost: goals with success only after, only before.
        both, neither: the other goals.
    """

    iteration: int
    before: str
    after: str
    goals: GoalKind
    role: str
    metric: Metric
    n: int
    mean_before: float
    mean_after: float
    difference: float
    low: float
    high: float
    won: int
    lost: int
    both: int
    neither: int


@dataclass(frozen=True)
class TrainingCurve:
    """The loss of one training.

    Attributes:
        name: of the policy that it made.
        method: sft, kto or dpo; ``cold start`` for the demonstrations.
        points: (optimizer step, loss).
    """

    name: str
    method: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class HarvestYield:
    """What the rollouts of one iteration gave.

    Attributes:
        name: of the iteration, for people: ``JOSH round 1``.
        trees: goals rolled out; the sum of the four that follow.
        full, partial, none, failed: trees by reward; failed ones apart.
        rows: kind of row (``SFT conversations``, ``KTO desirable``, ...) to its number.
        by_round: search round to the number of turns that gave (desirable, undesirable) rows.
    """

    iteration: int
    name: str
    trees: int
    full: int
    partial: int
    none: int
    failed: int
    rows: Mapping[str, int]
    by_round: Mapping[int, tuple[int, int]]


@dataclass(frozen=True)
class Cost:
    """What one step took.

    Attributes:
        round: name of the iteration for people; empty for what came before the first round.
        step: ``cold start``, ``rollouts``, ``training`` or ``evaluation``.
        seconds: wall time; None where it was not recorded.
        requests: completions asked of the policy; 0 for training.
        prompt_tokens, cached_tokens: of the prompts, and how many of them the engine had cached.
        completion_tokens: sampled; for training the tokens of the rows.
        user_tokens: prompt and sampled tokens of a simulated user that is a model.
        money: in the currency of the prices in the settings; 0 without prices.
    """

    iteration: int
    round: str
    step: str
    seconds: float | None
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    user_tokens: int = 0
    money: float = 0.0


@dataclass(frozen=True)
class Played:
    """A conversation of an evaluation."""

    policy: str
    messages: Conversation
    reward: float
    earned: tuple[int, ...]


@dataclass(frozen=True)
class Example:
    """One goal that changed between two policies.

    Attributes:
        iteration: the one that trained the second of them.
    """

    iteration: int
    kind: Literal["won", "lost"]
    goal: Goal
    before: Played
    after: Played


@dataclass(frozen=True)
class InjectedFaults:
    """How careless the scripted conversations of the cold start were made, on purpose.

    Attributes:
        conversations: how many there were.
        claimed_bookings: share of bookings that were claimed and not made.
        dropped_constraints: share of searches that left a constraint out.
        false_no_match: share of results that were denied to the user.
        reward, full_reward: what the conversations themselves earned; None where it was not recorded.
    """

    conversations: int
    claimed_bookings: float
    dropped_constraints: float
    false_no_match: float
    reward: float | None
    full_reward: float | None


@dataclass(frozen=True)
class Ceiling:
    """What a perfect agent reaches with this user on the goals of the evaluation."""

    n: int
    success: float


@dataclass(frozen=True)
class CorpusFacts:
    """Where the dialogues came from."""

    name: str
    source: str
    licence: str
    digest: str
    dialogues: int


@dataclass(frozen=True)
class ReportData:
    """Everything the report shows.

    Attributes:
        created: when the report was made, UTC, to the minute.
        model: name of the foundation.
        scores: in order of iteration; the cold start first.
        comparisons: each candidate against the policy before it, and the last against the first.
        unread: why ceiling and injected faults are missing where the settings cannot be read; else None.
        decisions: of the gate, one for each attempt.
        drifts: in order of iteration; the cold start first.
        examples: of each round, the last one first.
        tree: one search tree to draw.
        tree_link: where its own page lies, relative to the report; None where it has none.
        settings: of the latest run, nested.
        versions: package to version.
        git_commit: None outside a checkout.
    """

    created: str
    profile: str
    seed: int
    model: str
    corpus: CorpusFacts
    injected: InjectedFaults | None
    ceiling: Ceiling | None
    unread: str | None
    scores: tuple[PolicyScore, ...]
    comparisons: tuple[Comparison, ...]
    decisions: tuple[Decision, ...]
    drifts: tuple[PolicyDrift, ...]
    curves: tuple[TrainingCurve, ...]
    harvests: tuple[HarvestYield, ...]
    costs: tuple[Cost, ...]
    examples: tuple[Example, ...]
    tree: DrawnTree | None
    tree_link: str | None
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    git_commit: str | None

    def shown(self, goals: GoalKind, role: str = "test") -> tuple[PolicyScore, ...]:
        """Scores on goals of one kind and role, but for those of superseded attempts."""
        return tuple(
            score
            for score in self.scores
            if (score.goals, score.role) == (goals, role) and not score.superseded
        )

    @property
    def main(self) -> tuple[PolicyScore, ...]:
        """The scores that figures show: on test goals, of the kind that all rounds were evaluated on."""
        return max((self.shown("parts"), self.shown("whole")), key=len)
