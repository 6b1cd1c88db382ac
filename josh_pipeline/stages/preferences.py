"""Step ``preference_pairs``: the rows that training learns from, and the nodes that they came from."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import polars as pl

from josh_pipeline.dialogue.agents.factory import make_agent
from josh_pipeline.search.harvest import HarvestResult, harvest
from josh_pipeline.search.replay import with_replayed
from josh_pipeline.search.row_check import Finding, check_rows
from josh_pipeline.search.row_codec import link_record, row_from_record, row_record
from josh_pipeline.search.rows import KtoRow, Row, SftRow, prompt_id
from josh_pipeline.stages.policy import PolicyRow, iterating_policy, policy_of
from josh_pipeline.stages.step import Step
from josh_pipeline.stages.trees import stored_trees
from josh_pipeline.store.warehouse import Generation, Warehouse

NO_ROWS_ADVICE = (
    "Raise search.goals or search.beam_size, try another --seed, or give the model a longer cold start."
)
"""What to do where no tree earned enough."""


@dataclass(frozen=True)
class PreferencesSummary:
    """What was harvested.

    Attributes:
        rows: number by label: ``desirable``, ``undesirable`` (KTO), ``pairs`` (DPO), ``conversations`` (SFT).
        trees: trees that gave a row.
        refused: what was left out, by reason.
        findings: of the check; blocking ones mean that nothing may be trained on the rows.
    """

    generation: Generation
    method: str
    rows: Mapping[str, int]
    trees: int
    refused: Mapping[str, int]
    findings: tuple[Finding, ...]


def harvest_rows(step: Step, iteration: str) -> PreferencesSummary:
    """Harvest the trees of an iteration for the method that the settings train with."""
    policy = iterating_policy(step, iteration)
    sources = [
        step.require("rollouts", iteration, "beam_rollouts"),
        step.require("labels", iteration, "reward_labels"),
    ]
    method = step.settings.training.method
    forbidden = frozenset(
        step.warehouse.query(
            "SELECT goal_id FROM current_goals WHERE scope = ? AND role <> 'train'", [policy.goals_scope]
        )["goal_id"]
    )
    trees = stored_trees(step.warehouse, iteration)
    tokens = row_length(step, policy.base_path)
    limit = step.settings.training.max_tokens
    whole = harvest(trees, method, step.settings.harvest.mode, forbidden)
    harvested = without_long(whole, tokens, limit)
    refused: dict[str, int] = {str(reason): number for reason, number in whole.refused.items()}
    if len(whole.rows) > len(harvested.rows):
        refused["too_long"] = len(whole.rows) - len(harvested.rows)
    generation = _write(step, iteration, harvested, [policy.source, *sources])
    agent = make_agent(step.settings.policy.agent, step.settings.policy.results)
    findings = check_rows(harvested.rows, agent, tokens, limit)
    return PreferencesSummary(
        generation=generation,
        method=method,
        rows=dict(Counter(label_of(row) for row in harvested.rows)),
        trees=harvested.trees,
        refused=refused,
        findings=tuple(findings),
    )


def row_length(step: Step, base_path: str) -> Callable[[Row], int]:
    """Return what counts a row's tokens as training does; of a pair the longer side.

    Without the weights of an endpoint there is no tokenizer, and every row counts as empty.
    """
    if not base_path:
        return lambda row: 0
    # Imported where it is used: transformers takes seconds, and the assets import this module.
    from josh_pipeline.policies.chat import ChatRenderer

    renderer = ChatRenderer(step.home.absolute(base_path))

    def tokens(row: Row) -> int:
        if isinstance(row, SftRow):
            sides = [row.messages]
        elif isinstance(row, KtoRow):
            sides = [(*row.prompt, row.completion.message)]
        else:
            sides = [(*row.prompt, row.chosen.message), (*row.prompt, row.rejected.message)]
        return max(len(renderer.row_ids(side, row.tools)[0]) for side in sides)

    return tokens


def without_long(harvested: HarvestResult, tokens: Callable[[Row], int], limit: int) -> HarvestResult:
    """Leave out the rows that training would have to cut, and with a desirable row its undesirable rivals."""
    fitting = [row for row in harvested.rows if tokens(row) <= limit]
    answered = {prompt_id(r.tools, r.prompt) for r in fitting if isinstance(r, KtoRow) and r.desirable}
    kept = tuple(
        row for row in fitting if not isinstance(row, KtoRow) or prompt_id(row.tools, row.prompt) in answered
    )
    ids = {row.row_id for row in kept}
    links = tuple(link for link in harvested.links if link.row_id in ids)
    trees = len({link.rollout_id for link in links})
    return replace(harvested, rows=kept, links=links, trees=min(trees, harvested.trees))


def label_of(row: Row) -> str:
    """Name the kind of a row for people."""
    if isinstance(row, SftRow):
        return "conversations"
    if isinstance(row, KtoRow):
        return "desirable" if row.desirable else "undesirable"
    return "pairs"


def _write(step: Step, iteration: str, harvested: HarvestResult, inputs: list[Generation]) -> Generation:
    tables = {}
    if harvested.rows:
        records = [row_record(row) | {"position": position} for position, row in enumerate(harvested.rows)]
        tables = {
            "preference_rows": pl.DataFrame(records, schema_overrides={"rejected": pl.String}),
            "row_nodes": pl.DataFrame([link_record(link) for link in harvested.links]),
        }
    return step.warehouse.publish("preferences", iteration, step.run_id, tables, inputs)


def training_rows(step: Step, policy: PolicyRow) -> tuple[list[Row], list[Generation]]:
    """Return what an iteration trains on, and the harvests that it comes from, the iteration's own first.

    These are its own rows, and those of the ``harvest.replay`` iterations before it on its line.
    """
    sources = [step.require("preferences", policy.iteration, "preference_pairs")]
    earlier: list[list[Row]] = []
    before = policy.predecessor
    while before is not None and len(earlier) < step.settings.harvest.replay:
        older = policy_of(step.warehouse, before)
        if older.is_baseline:
            break
        sources.append(step.require("preferences", before, "preference_pairs"))
        earlier.append(stored_rows(step.warehouse, before))
        before = older.predecessor
    return with_replayed(stored_rows(step.warehouse, policy.iteration), earlier), sources


def stored_rows(warehouse: Warehouse, iteration: str) -> list[Row]:
    """Return the current rows of an iteration, in the order of the harvest."""
    return [
        row_from_record(record)
        for record in warehouse.rows(
            "SELECT * FROM current_preference_rows WHERE iteration = ? ORDER BY position", [iteration]
        )
    ]
