"""All that a report shows, as plain data; where it came from is the business of ``load``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from josh_pipeline.core.environment import Carelessness, Role, Task
from josh_pipeline.core.messages import Conversation
from josh_pipeline.dialogue.demonstrations import Ceiling
from josh_pipeline.evaluation.drift import Drift
from josh_pipeline.evaluation.failures import Failure
from josh_pipeline.evaluation.gate import too_far
from josh_pipeline.evaluation.summary import Score
from josh_pipeline.report.tree import DrawnTree
from josh_pipeline.report.words import GoalKind
from josh_pipeline.search.shape import Shape
from josh_pipeline.search.tree import Usage

Metric = Literal["reward", "success"]


@dataclass(frozen=True)
class PolicyScore:
    """One policy on one set of goals; a line of the score table.

    Attributes:
        iteration: the iteration that made it; its line's first for the policy that the line starts from.
        attempt: of that iteration.
        superseded: it was refused, and the iteration has made another attempt since.
        name: of the policy, for people: ``cold start``, ``JOSH round 1``, ...
        corpus: name of the corpus.
        role: ``val`` or ``test``; of other benchmarks what was selected, e.g. ``test (all)``.
        promoted: None for what a line starts from, and while the gate has not spoken.
        trees, full_trees, rows: what it was trained on; None where it was not trained by a round.
    """

    iteration: int
    attempt: int
    superseded: bool
    name: str
    corpus: str
    goals: GoalKind
    role: str
    score: Score
    promoted: bool | None
    trees: int | None = None
    full_trees: int | None = None
    rows: int | None = None


@dataclass(frozen=True)
class LostGoals:
    """The goals that a policy lost.

    Attributes:
        policy: its name for people.
        n: conversations held.
        failures: those without success, in the order of their goals.
    """

    policy: str
    role: Role
    n: int
    failures: tuple[Failure, ...]


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

    @property
    def too_far(self) -> bool:
        """It was measured, and a candidate that drifts so far is refused."""
        return self.drift is not None and too_far(self.drift.mean, self.max_drift)


@dataclass(frozen=True)
class Decision:
    """What the gate decided on a candidate, and why."""

    iteration: int
    name: str
    promoted: bool
    reason: str


@dataclass(frozen=True)
class PolicyChange:
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
        rows: label of a row for people to its number.
        by_round: search round to the number of turns that gave (desirable, undesirable) rows.
        alike: how many rows want exactly the calls of an evaluated goal, in a sentence; None where no goal
            names its calls.
        shape: what the trees look like; None where that is not asked for.
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
    alike: str | None = None
    shape: Shape | None = None


@dataclass(frozen=True)
class Cost:
    """What one step took.

    Attributes:
        round: name of the iteration for people; empty for what came before the first round, ``other runs``
            for what no score came from.
        step: ``cold start``, ``rollouts``, ``training`` or ``evaluation``.
        seconds: wall time; None where it was not recorded.
        usage: requests and tokens; of training the tokens of its rows count as sampled.
    """

    iteration: int
    round: str
    step: str
    seconds: float | None
    usage: Usage


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
    goal: Task
    before: Played
    after: Played


@dataclass(frozen=True)
class InjectedFaults:
    """The scripted conversations of the cold start.

    Attributes:
        conversations: how many there were.
        careless: how careless they were made, on purpose.
        full_reward: share of them that earned the full reward.
    """

    conversations: int
    careless: Carelessness
    full_reward: float


@dataclass(frozen=True)
class CorpusFacts:
    """Where the goals came from."""

    name: str
    source: str
    licence: str
    corpus_digest: str
    sources: int


@dataclass(frozen=True)
class ReportData:
    """Everything the report shows.

    Attributes:
        created: when the report was made, UTC, to the minute.
        model: name of the foundation.
        ceiling: what a perfect agent reaches with this user on the goals of the evaluation.
        unread: why ceiling and injected faults are missing where the settings cannot be read; else None.
        unused: what was made again and is not what the rest tells of, a sentence each.
        scores: in order of iteration; the cold start first.
        lost: what each policy lost on test goals, where the settings can be read.
        changes: each candidate against the policy before it, and the last against the first.
        decisions: of the gate, one for each attempt.
        drifts: in order of iteration; the cold start first.
        examples: of each round, the last one first.
        tree: one search tree to draw.
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
    unused: tuple[str, ...]
    scores: tuple[PolicyScore, ...]
    lost: tuple[LostGoals, ...]
    changes: tuple[PolicyChange, ...]
    decisions: tuple[Decision, ...]
    drifts: tuple[PolicyDrift, ...]
    curves: tuple[TrainingCurve, ...]
    harvests: tuple[HarvestYield, ...]
    costs: tuple[Cost, ...]
    examples: tuple[Example, ...]
    tree: DrawnTree | None
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    git_commit: str | None

    @property
    def main(self) -> tuple[PolicyScore, ...]:
        """The scores that figures show: on test goals, of the kind that all rounds were evaluated on.

        What superseded attempts reached stands in the tables only.
        """
        shown: dict[str, list[PolicyScore]] = {}
        for score in self.scores:
            if score.role == "test" and not score.superseded:
                shown.setdefault(score.goals.name, []).append(score)
        return max((tuple(found) for found in shown.values()), key=len, default=())
