"""Stage ``preferences``: the rows that training learns from, and the nodes that they came from."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict

from josh_pipeline.core.errors import UserError
from josh_pipeline.dialogue.agents import make_agent
from josh_pipeline.harvest.checks import MOST_LOPSIDED, Remark, check_rows
from josh_pipeline.harvest.harvest import HarvestResult, counted, harvest, with_earlier, without_long
from josh_pipeline.harvest.rows import Row, held_out, row_from_record, row_record
from josh_pipeline.policies.chat import ChatRenderer
from josh_pipeline.search.tree import Tree
from josh_pipeline.settings import Settings
from josh_pipeline.stages.alike import calls_alike
from josh_pipeline.stages.goals import evaluated_goals
from josh_pipeline.stages.playing import environment_of
from josh_pipeline.stages.policy import PolicyRow, iterating_policy, made_with, policy_of
from josh_pipeline.stages.rollouts import trees_of
from josh_pipeline.stages.stage import Check, Made, Stage, Step, Verdict
from josh_pipeline.stages.unused import unused_facts
from josh_pipeline.store.home import Home
from josh_pipeline.store.warehouse import Generation, Warehouse
from josh_pipeline.training.methods import method_of
from josh_pipeline.training.tokens import RowTokenizer


def no_rows_advice(settings: Settings) -> str:
    """Say what to do where no tree earned enough: an endpoint's model has no cold start."""
    last = "raise cold_start.conversations" if settings.policy.endpoint is None else "take another model"
    return f"Raise search.goals or search.beam_size, try another --seed, or {last}."


def harvest_rows(step: Step, iteration: str) -> Made:
    """Harvest the trees of an iteration for the method that the settings train with.

    Raises:
        UserError: trees or labels are missing, are of another policy than the iteration has now, or do
            not belong together.
    """
    policy = iterating_policy(step, iteration)
    rollouts, labels = made_with(step, policy, "rollouts"), made_with(step, policy, "labels")
    require_labelled(step, rollouts, labels)
    settings = step.settings
    trees = trees_of(step.warehouse, rollouts)
    forbidden = held_out([tree.goal_id for tree in trees], goal_roles(step.warehouse, policy))
    whole = harvested_from(trees, settings, forbidden)
    measured = counted(whole, row_length(step.home, policy.base_path))
    harvested = without_long(measured, settings.training.max_tokens)
    refused: dict[str, int] = {str(reason): number for reason, number in whole.refused.items()}
    if len(whole.rows) > len(harvested.rows):
        refused["too_long"] = len(whole.rows) - len(harvested.rows)
    rows = harvested.rows
    tables = {
        "preference_rows": [row_record(row) | {"position": position} for position, row in enumerate(rows)],
        "row_nodes": [asdict(origin) for origin in harvested.origins],
    }
    inputs = [policy.source, rollouts, labels]
    generation = step.warehouse.publish("preferences", iteration, step.run_id, tables, inputs)
    return Made(
        generation,
        version=step.warehouse.content_of(generation),
        rows=len(rows),
        facts={
            "method": settings.training.method,
            "rows": dict(Counter(row.label for row in rows)),
            "retokenised rows": sum(row.retokenised for row in rows),
            "trees that gave a row": harvested.trees,
            "left out": refused,
            **unused_facts(step.warehouse, iteration),
        },
        verdicts={
            "rows_sound": rows_sound(step, rows),
            "nothing_leaks": nothing_leaks(step.warehouse, policy, rows),
            "calls_unseen": calls_unseen(step, policy, rows),
            "labels_balanced": labels_balanced(rows),
        },
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


def require_labelled(step: Step, rollouts: Generation, labels: Generation) -> None:
    """Hold labels to the trees that are harvested. The check of the labels binds its own run alone.

    Raises:
        UserError: the labels are of other trees, or are not those that the search noted.
    """
    warehouse, labelled = step.warehouse, step.asset("labels")
    where = f"of iteration {rollouts.scope}"
    about = {"iteration": rollouts.scope, "rollouts": rollouts.number, "labels": labels.number}
    if warehouse.rows(OTHER_NODES, about)[0]["nodes"]:
        raise UserError(
            f"{labelled} {where} was made from other trees than {step.asset('rollouts')} holds now: "
            f"materialize {labelled} {where} again."
        )
    wrong = warehouse.rows(
        "SELECT count(*) AS trees FROM tree_labels WHERE iteration = ? AND generation = ? AND NOT agrees",
        [labels.scope, labels.number],
    )[0]["trees"]
    if wrong:
        raise UserError(
            f"The labels of {wrong} trees {where} are not those that the search noted: see josh audit for "
            f"what was altered, restore it, and materialize {labelled} {where} again."
        )


def goal_roles(warehouse: Warehouse, policy: PolicyRow) -> list[tuple[str, str, str]]:
    """Return goal, source and role of every goal that a policy's line knows."""
    sql = "SELECT goal_id, source_id, role FROM current_goals WHERE scope = ?"
    return warehouse.query(sql, [policy.goals_scope]).rows()


def harvested_from(trees: Collection[Tree], settings: Settings, forbidden: frozenset[str]) -> HarvestResult:
    """Harvest trees as settings say."""
    method = method_of(settings.training)
    return harvest(trees, settings.training.method, method.kind, settings.harvest.mode, forbidden)


def row_length(home: Home, base_path: str) -> Callable[[Row], int]:
    """Return what counts the tokens of a row's longest sequence as training does.

    Without the weights of an endpoint there is no tokenizer, and every row counts as empty.
    """
    if not base_path:
        return lambda row: 0
    return RowTokenizer(ChatRenderer(home.absolute(base_path))).length


def training_rows(step: Step, policy: PolicyRow) -> tuple[list[Row], list[Generation]]:
    """Return what an iteration trains on, and the harvests that it comes from, the iteration's own first.

    These are its own rows, and those of the ``harvest.replay`` iterations before it on its line.

    Raises:
        UserError: rows are missing, or the policy of an iteration has changed since its rows were harvested.
    """
    sources = [made_with(step, policy, "preferences")]
    earlier: list[list[Row]] = []
    before = policy.predecessor
    while before is not None and len(earlier) < step.settings.harvest.replay:
        older = policy_of(step.warehouse, before)
        if older.is_baseline:
            break
        if older.line != policy.line:
            raise UserError(
                f"Iteration {before}, whose rows would be trained on again, is now of other goals, another base or "
                f"format than iteration {policy.iteration}: materialize policy of iteration {policy.iteration} "
                "again, or set harvest.replay to 0."
            )
        sources.append(made_with(step, older, "preferences"))
        earlier.append(rows_of(step.warehouse, sources[-1]))
        before = older.predecessor
    return with_earlier(rows_of(step.warehouse, sources[0]), earlier), sources


def require_sound(step: Step, policy: PolicyRow, rows: Sequence[Row], sources: Sequence[Generation]) -> None:
    """Hold rows to the checks of the harvest before they are trained on.

    Those checks stop the run that harvested. A later run may train alone, on rows that failed them, or on
    replayed rows with other settings than they were checked with.

    Args:
        rows, sources: as ``training_rows`` returns them.

    Raises:
        UserError: training on the rows would be wrong.
    """
    method = step.settings.training.method
    faults = [(remark.message, remark.rows) for remark in remarks_on(step, rows) if remark.blocking]
    if other := tuple(row.row_id for row in rows if row.method != method):
        faults.append((f"{len(other)} of {len(rows)} rows are not for training.method {method}.", other))
    if leaked := leaking(step.warehouse, policy, rows):
        message = f"{len(leaked)} of {len(rows)} rows come from goals or sources that are held out."
        faults.append((message, leaked))
    if not faults:
        return
    said = "; ".join(message.rstrip(".") for message, _ in faults)
    wrong = {row_id for _, ids in faults for row_id in ids}
    harvests = [
        source.scope for source in sources if wrong & {row.row_id for row in rows_of(step.warehouse, source)}
    ] or [policy.iteration]
    others = {row.method for row in rows}
    if set(harvests) != {policy.iteration}:
        instead = ", or set harvest.replay to 0"
    elif len(faults) == 1 and len(other) == len(rows) and len(others) == 1:
        instead = f" with this method, or train with that of the rows: set training.method to {others.pop()}"
    else:
        instead = ""
    raise UserError(
        f"Iteration {policy.iteration} cannot be trained on its rows ({said}): materialize "
        f"{step.asset('preferences')} of iteration {' and '.join(sorted(harvests))} again{instead}."
    )


def remarks_on(step: Step, rows: Sequence[Row]) -> list[Remark]:
    """Return what the checks of a harvest say of rows."""
    agent = make_agent(step.settings.policy.agent, step.settings.policy.results)
    return check_rows(rows, agent, step.settings.training.max_tokens)


def leaking(warehouse: Warehouse, policy: PolicyRow, rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the ids of rows whose goal, or its source, is not for training alone."""
    kept_out = held_out([row.source.goal_id for row in rows], goal_roles(warehouse, policy))
    return tuple(row.row_id for row in rows if row.source.goal_id in kept_out)


def stored_rows(warehouse: Warehouse, iteration: str) -> list[Row]:
    """Return the current rows of an iteration, in the order of the harvest."""
    generation = warehouse.current("preferences", iteration)
    return rows_of(warehouse, generation) if generation is not None else []


def rows_of(warehouse: Warehouse, harvested: Generation) -> list[Row]:
    """Return the rows of a generation of this stage, in the order of the harvest."""
    return [row_from_record(record) for record in warehouse.written("preference_rows", harvested, "position")]


def rows_sound(step: Step, rows: Sequence[Row]) -> Verdict:
    """Say whether the rows may be trained on."""
    remarks = remarks_on(step, rows)
    blocking = [remark.message for remark in remarks if remark.blocking]
    advice = [] if rows else [no_rows_advice(step.settings)]
    found = [{"rule": one.rule, "blocking": one.blocking, "finding": one.message} for one in remarks]
    sentence = " ".join([*blocking, *advice]) or f"All {len(rows)} rows are sound."
    return Verdict(not blocking, sentence, {"rows": len(rows), "findings": found})


def nothing_leaks(warehouse: Warehouse, policy: PolicyRow, rows: Sequence[Row]) -> Verdict:
    """Look for training rows whose goal or source is held out for evaluation."""
    leaked = len(leaking(warehouse, policy, rows))
    return Verdict(
        not leaked,
        f"{leaked} of {len(rows)} rows come from goals or sources that are held out for evaluation."
        if leaked
        else f"None of {len(rows)} rows comes from a goal or a source that is held out.",
        {"rows": len(rows), "held out": leaked},
    )


def calls_unseen(step: Step, policy: PolicyRow, rows: Sequence[Row]) -> Verdict:
    """Count training rows whose goal wants exactly the calls of a goal that is evaluated.

    That is no leak (another source, another wording), but such a goal can be solved by heart.
    """
    by_role = evaluated_goals(step, policy.goals_scope, environment_of(step, policy))
    evaluated = [goal.goal_id for goals in by_role.values() for goal in goals]
    return calls_alike(step.warehouse, policy.goals_scope, [row.source.goal_id for row in rows], evaluated)


def labels_balanced(rows: Sequence[Row]) -> Verdict:
    """Weigh desirable against undesirable rows; other kinds of rows have no sides to weigh."""
    if not rows:
        return Verdict(False, "There are no rows.", {"rows": 0})
    if rows[0].kind != "messages":
        return Verdict(True, f"{len(rows)} rows for {rows[0].method}, which has no sides.", {"rows": len(rows)})
    good = sum(row.good is not None for row in rows)
    bad = len(rows) - good
    passed = min(good, bad) * MOST_LOPSIDED >= max(good, bad)
    advice = "" if passed else " Weigh the rarer side with training.desirable_weight or undesirable_weight."
    return Verdict(
        passed,
        f"{good} desirable and {bad} undesirable rows.{advice}",
        {"desirable": good, "undesirable": bad, "desirable share": round(good / len(rows), 4)},
    )


STAGE = Stage(
    name="preferences",
    asset="preference_pairs",
    about="What training learns from: golden conversations (SFT), single messages with their label (KTO), "
    "pairs after the same prompt (DPO), or sampled messages with their advantage (SRPG), each with the nodes that it "
    "came from.",
    tables={"preference_rows": ("row_id",), "row_nodes": ("row_id", "node_id", "part")},
    inputs=("policy", "rollouts", "labels"),
    make=harvest_rows,
    checks=(
        Check(
            "rows_sound",
            "There are rows; each is once, has one label, answers a user or a tool, can be read by the agent.",
            blocking=True,
        ),
        Check(
            "nothing_leaks",
            "No row comes from a goal, or from the source of a goal, that is held out for validation or test.",
            blocking=True,
        ),
        Check(
            "calls_unseen",
            "No row comes from a goal that wants exactly the calls of an evaluated goal. A warning with a "
            "count: sources differ, but such a goal could be solved by heart.",
        ),
        Check("labels_balanced", "Of single labelled messages neither side is more than 20 times the other."),
    ),
    origins={
        "preference_rows.goal_id": ["trees.goal_id"],
        "preference_rows.rollout_id": ["trees.rollout_id"],
        "preference_rows.policy_digest": ["trees.policy_digest"],
        "preference_rows.tools": ["trees.tools"],
        "preference_rows.prompt": ["trees.system", "nodes.messages"],
        "preference_rows.sides": ["nodes.messages"],
        "preference_rows.label": ["nodes.golden", "nodes.successful"],
        "row_nodes.node_id": ["nodes.node_id"],
    },
)
