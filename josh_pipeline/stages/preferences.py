"""Step ``preference_pairs``: the rows that training learns from, and the nodes that they came from."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl

from josh_pipeline.core.errors import UserError
from josh_pipeline.dialogue.agents import make_agent
from josh_pipeline.harvest.checks import Finding, check_rows
from josh_pipeline.harvest.codec import link_record, row_from_record, row_record
from josh_pipeline.harvest.harvest import HarvestResult, harvest
from josh_pipeline.harvest.replay import with_replayed
from josh_pipeline.harvest.rows import KtoRow, Row, SftRow, method_of, prompt_id
from josh_pipeline.stages.policy import PolicyRow, iterating_policy, made_with, policy_of
from josh_pipeline.stages.step import Step, one_at_a_time
from josh_pipeline.stages.rollouts import trees_of
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


@one_at_a_time
def harvest_rows(step: Step, iteration: str) -> PreferencesSummary:
    """Harvest the trees of an iteration for the method that the settings train with.

    Raises:
        UserError: trees or labels are missing, are of another policy than the iteration has now, or do
            not belong together.
    """
    policy = iterating_policy(step, iteration)
    rollouts, labels = made_with(step, policy, "rollouts"), made_with(step, policy, "labels")
    require_labelled(step.warehouse, rollouts, labels)
    method = step.settings.training.method
    forbidden = frozenset(
        step.warehouse.query(
            "SELECT goal_id FROM current_goals WHERE scope = ? AND role <> 'train'", [policy.goals_scope]
        )["goal_id"]
    )
    trees = trees_of(step.warehouse, rollouts)
    tokens = row_length(step, policy.base_path)
    limit = step.settings.training.max_tokens
    whole = harvest(trees, method, step.settings.harvest.mode, forbidden)
    harvested = without_long(whole, tokens, limit)
    refused: dict[str, int] = {str(reason): number for reason, number in whole.refused.items()}
    if len(whole.rows) > len(harvested.rows):
        refused["too_long"] = len(whole.rows) - len(harvested.rows)
    generation = _write(step, iteration, harvested, [policy.source, rollouts, labels])
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


OTHER_NODES = (
    "SELECT count(*) AS nodes FROM "
    "(SELECT n.* FROM rollouts r JOIN nodes n USING (rollout_id) "
    "WHERE r.iteration = $iteration AND r.generation = $rollouts) n "
    "FULL JOIN (SELECT * FROM labels WHERE iteration = $iteration AND generation = $labels) l "
    "USING (rollout_id, node_id) WHERE n.path IS NULL OR l.agrees IS NULL "
    "OR (l.agrees AND (n.golden, n.successful) <> (l.golden, l.successful))"
)
"""Nodes without a label, labels without a node, and nodes that have changed since they were labelled."""


def require_labelled(warehouse: Warehouse, rollouts: Generation, labels: Generation) -> None:
    """Hold labels to the trees that are harvested. The check of the labels binds its own run alone.

    Raises:
        UserError: the labels are of other trees, or are not those that the search noted.
    """
    where = f"of iteration {rollouts.scope}"
    about = {"iteration": rollouts.scope, "rollouts": rollouts.number, "labels": labels.number}
    if warehouse.rows(OTHER_NODES, about)[0]["nodes"]:
        raise UserError(
            f"reward_labels {where} was made from other trees than beam_rollouts holds now: "
            f"materialize reward_labels {where} again."
        )
    wrong = warehouse.rows(
        "SELECT count(*) AS trees FROM tree_labels WHERE iteration = ? AND generation = ? AND NOT agrees",
        [labels.scope, labels.number],
    )[0]["trees"]
    if wrong:
        raise UserError(
            f"The labels of {wrong} trees {where} are not those that the search noted: see josh audit for "
            f"what was altered, restore it, and materialize reward_labels {where} again."
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

    Raises:
        UserError: rows are missing, or the iteration's policy has changed since its own were harvested.
    """
    sources = [made_with(step, policy, "preferences")]
    earlier: list[list[Row]] = []
    before = policy.predecessor
    while before is not None and len(earlier) < step.settings.harvest.replay:
        older = policy_of(step.warehouse, before)
        if older.is_baseline:
            break
        sources.append(step.require("preferences", before, "preference_pairs"))
        earlier.append(rows_of(step.warehouse, sources[-1]))
        before = older.predecessor
    return with_replayed(rows_of(step.warehouse, sources[0]), earlier), sources


def require_sound(step: Step, policy: PolicyRow, rows: Sequence[Row], sources: Sequence[Generation]) -> None:
    """Hold rows to the checks of the harvest before they are trained on.

    Those checks stop the run that harvested. A later run may train alone, on rows that failed them, or on
    replayed rows with other settings than they were checked with.

    Args:
        rows, sources: as ``training_rows`` returns them.

    Raises:
        UserError: training on the rows would be wrong.
    """
    settings = step.settings
    agent = make_agent(settings.policy.agent, settings.policy.results)
    limit = settings.training.max_tokens
    found = check_rows(rows, agent, row_length(step, policy.base_path), limit)
    faults = [(finding.message, finding.rows) for finding in found if finding.blocking]
    if other := tuple(row.row_id for row in rows if method_of(row) != settings.training.method):
        message = f"{len(other)} of {len(rows)} rows are not for training.method {settings.training.method}."
        faults.append((message, other))
    if leaked := held_out(step.warehouse, policy.goals_scope, rows):
        message = f"{len(leaked)} of {len(rows)} rows come from goals or dialogues that are held out."
        faults.append((message, leaked))
    if not faults:
        return
    said = "; ".join(message.rstrip(".") for message, _ in faults)
    wrong = {row_id for _, ids in faults for row_id in ids}
    harvests = [
        source.scope for source in sources if wrong & {row.row_id for row in rows_of(step.warehouse, source)}
    ] or [policy.iteration]
    replayed = ", or set harvest.replay to 0" if set(harvests) != {policy.iteration} else ""
    raise UserError(
        f"Iteration {policy.iteration} cannot be trained on its rows ({said}): materialize preference_pairs "
        f"of iteration {' and '.join(sorted(harvests))} again{replayed}."
    )


def held_out(warehouse: Warehouse, goals_scope: str, rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the ids of rows whose goal, or its dialogue, is not for training alone."""
    goals = warehouse.rows(
        "SELECT goal_id, dialogue_id, role FROM current_goals WHERE scope = ?", [goals_scope]
    )
    evaluated = {goal["dialogue_id"] for goal in goals if goal["role"] != "train"}
    free = {goal["goal_id"] for goal in goals if goal["dialogue_id"] not in evaluated}
    return tuple(row.row_id for row in rows if row.source.goal_id not in free)


def stored_rows(warehouse: Warehouse, iteration: str) -> list[Row]:
    """Return the current rows of an iteration, in the order of the harvest."""
    generation = warehouse.current("preferences", iteration)
    return rows_of(warehouse, generation) if generation is not None else []


def rows_of(warehouse: Warehouse, harvest: Generation) -> list[Row]:
    """Return the rows of a generation of stage ``preferences``, in the order of the harvest."""
    records = warehouse.rows(
        "SELECT * FROM preference_rows WHERE iteration = ? AND generation = ? ORDER BY position",
        [harvest.scope, harvest.number],
    )
    return [row_from_record(record) for record in records]
