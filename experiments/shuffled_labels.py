"""A regression made on purpose: KTO on one iteration's rows, with their labels and with shuffled ones.

    python experiments/shuffled_labels.py --home .josh --iteration 1 [--rate 3e-4]

Both candidates start from the iteration's policy, train at the same rate for the same number of steps and
play the goals of role `val`; the gate's own sentence is printed for each, drift included. Results are
appended to experiments/shuffled-labels-ITERATION.jsonl in the home; a rerun makes only what is missing. The
iteration's own settings hold, and lines of another attempt or of before a rerun are left alone.
"""

import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import ClassVar

from common import Experiment, options_of, run

from josh_pipeline.evaluation.gate import Gate, undisturbed
from josh_pipeline.harvest.rows import Row
from josh_pipeline.stages.drift import drift_record
from josh_pipeline.stages.evaluation import GATE, comparison, gate_of
from josh_pipeline.stages.stage import Step

LABELS = ("true", "shuffled")


class ShuffledLabels(Experiment):
    """KTO with both sets of labels, and what the gate makes of the candidates."""

    name: ClassVar[str] = "shuffled-labels"

    def __init__(self, step: Step, key: str, rate: float) -> None:
        super().__init__(step, key)
        self.rate = rate
        self.results = {(line["labels"], line["rate"]): line for line in self.kept()}

    def rows(self, labels: str) -> Sequence[Row]:
        """Return the KTO rows of the iteration's trees, labels shuffled among them where asked for."""
        rows = self.harvested(self.trees, "kto")
        if labels == "true":
            return rows
        drawn = [row.sides[0].label for row in rows]
        random.Random(self.seed).shuffle(drawn)
        return [
            replace(row, sides=(replace(row.sides[0], label=label),)) for row, label in zip(rows, drawn, strict=True)
        ]

    def judged(self, rows: Sequence[Row]) -> Gate:
        """Train on rows and return what the gate sees of the candidate."""
        step, policy = self.step, self.policy
        after, _ = self.trained(rows, self.training_settings("kto", self.rate))
        sides = [self.episodes(player, shown, GATE) for player, shown in ((policy, "before"), (after, "after"))]
        reward = comparison(step.settings, GATE, "reward", *undisturbed(*sides))
        drift = drift_record(step, after)
        return gate_of(asdict(reward), drift["drift"], drift["max_drift"])

    def work(self) -> None:
        """Make what is missing at this rate."""
        for labels in LABELS:
            if (labels, self.rate) not in self.results:
                rows = self.rows(labels)
                line = {"labels": labels, "rate": self.rate, "rows": len(rows)} | asdict(self.judged(rows))
                self.keep(line)
                self.results[labels, self.rate] = line

    def table(self) -> Iterator[str]:
        """A line for each candidate, of every rate that was tried."""
        for (labels, rate), line in self.results.items():
            names = [field for field in line if field not in ("labels", "rate", "rows")]
            gate = Gate(**{name: line[name] for name in names})
            verdict = "promoted" if gate.passed else "refused"
            yield f"{labels} labels, {line['rows']} rows, rate {rate:g}: {verdict}. {gate.sentence}"
        for labels in LABELS:
            if (labels, self.rate) not in self.results:
                yield f"Unfinished: {labels} labels at {self.rate:g}."


def main(arguments: Sequence[str] | None = None) -> int:
    """Make what is missing and print all of it, also of an interrupted run."""
    parser = options_of(__doc__)
    parser.add_argument("--rate", type=float, default=3e-4)
    options = parser.parse_args(arguments)
    return run(ShuffledLabels, options, rate=options.rate)


if __name__ == "__main__":
    sys.exit(main())
