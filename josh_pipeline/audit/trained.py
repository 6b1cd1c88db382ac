"""Adapters, evaluations and promotions held against what they were made from."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from josh_pipeline.audit.context import BATCH, Context
from josh_pipeline.audit.sources import check_folder, check_together
from josh_pipeline.core.content import content_id
from josh_pipeline.core.environment import Role
from josh_pipeline.core.errors import RolloutError
from josh_pipeline.core.world import World, judged
from josh_pipeline.dialogue.conversation import made_again
from josh_pipeline.evaluation.benchmark import Episode
from josh_pipeline.evaluation.summary import score
from josh_pipeline.harvest.harvest import with_earlier
from josh_pipeline.harvest.rows import row_from_record
from josh_pipeline.policies.weights import policy_digest
from josh_pipeline.stages.evaluation import GATE, Side, compared, score_record, stored_gate
from josh_pipeline.stages.playing import episode_from_record, stored_episodes
from josh_pipeline.stages.promotion import decided_digests, measured_digests
from josh_pipeline.store.lineage import Written

SCORED = ("n", "success_low", "success_high", "failures")
"""Columns of ``evaluations`` beside the means."""
COMPARED = ("n", "before", "after", "difference", "low", "high")
"""Numbers of ``comparisons``."""
TOLERANCE = 1e-9
"""Means are sums in another order: equal up to rounding."""


def check_adapter(context: Context, written: Written) -> None:
    """Hold an adapter to its manifest, its files, its rows and its parent."""
    row = context.row("trainings", written.generation)
    if row is None:
        return
    where = f"trainings {row['adapter_digest']}"
    manifest = json.loads(row["manifest"])
    check_folder(context, where, row["adapter_path"], row["adapter_digest"])
    check_manifest(context, where, row, manifest)
    check_rows_of(context, where, row, manifest, written)
    check_together(context, where, written)
    check_replayed(context, where, written)
    own = written.input("preferences")
    if own is not None and own in context.known:
        # Trees, labels and rows too: what was harvested across policies was trained on here.
        check_together(context, context.known[own].name, context.known[own])
        check_labels_of(context, context.known[own])
    right = policy_digest(row["base_digest"], row["adapter_digest"])
    if right != row["policy_digest"]:
        context.broken(where, f"Candidate {row['policy_digest']} is not its base with its adapter: that is {right}.")
    policy = context.row("policies", written.input("policy"))
    if policy is not None:
        context.linked(where, row, policy, ("base_digest",), "policy")
        if row["parent_digest"] not in (None, policy["adapter_digest"]):
            context.broken(where, f"It went on from adapter {row['parent_digest']}, which is not that of its policy.")


def check_replayed(context: Context, where: str, written: Written) -> None:
    """Hold rows of earlier iterations that were trained on again to the adapter's own line."""
    own = context.row("policies", written.input("policy"))
    for one in written.replayed():
        behind = context.row("policies", context.known[one].input("policy")) if one in context.known else None
        if own is not None and behind is not None and behind["line"] != own["line"]:
            message = f"Its line is {own['line']}, and it was trained on {one.key} generation {one.number} again, "
            context.broken(where, f"{message}which is of line {behind['line']}.")


def check_labels_of(context: Context, harvest: Written) -> None:
    """Hold the labels that a harvest was made with to its trees: they have to be of the same ones."""
    trees, labels = harvest.input("rollouts"), harvest.input("labels")
    labelled = context.known[labels].input("rollouts") if labels in context.known else None
    if trees is None or labelled is None or trees == labelled:
        return
    ids = [{row["rollout_id"] for row in context.rows("rollouts", one)} for one in (trees, labelled)]
    if all(ids) and ids[0] != ids[1]:
        message = f"Its labels are of the trees of {labelled.key} generation {labelled.number}, and its rows "
        message += f"of those of {trees.key} generation {trees.number}."
        context.broken(harvest.name, message)


def check_rows_of(
    context: Context, where: str, row: dict[str, Any], manifest: dict[str, Any], written: Written
) -> None:
    """Hold an adapter to the harvests that it was trained on: its own, and those that were replayed."""
    own = written.input("preferences")
    sources = [own, *written.replayed()] if own is not None else []
    if not sources or not all(context.readable(one) for one in sources):
        return
    harvests = [
        [row_from_record(record) for record in context.rows("preference_rows", one, "position")] for one in sources
    ]
    names = " and ".join(f"{one.key} generation {one.number}" for one in sources)
    right = content_id(sorted(each.row_id for each in with_earlier(harvests[0], harvests[1:])))
    if right != row["rows_digest"]:
        message = f"It was trained on rows with digest {row['rows_digest']}; those of {names} have {right}."
        context.broken(where, message)
    digests = [context.known[one].digest for one in sources]
    committed = manifest.get("rows_generations")
    if committed != digests:
        context.broken(where, f"Its manifest names the rows {committed}; those of {names} are {digests}.")


def check_manifest(context: Context, where: str, row: dict[str, Any], manifest: dict[str, Any]) -> None:
    """Hold an adapter's manifest, as a file and as stored, to its row of ``trainings``."""
    path = context.home.absolute(row["adapter_path"]).with_suffix(".json")
    shown = context.home.relative(path)
    if not path.is_file():
        context.broken(where, f"Its manifest {shown} is missing.")
    else:
        try:
            found = json.loads(path.read_text())
        except ValueError:
            found = None
        # A rerun that made the same weights again has written its own manifest over the first one's.
        stored = context.warehouse.rows(
            "SELECT manifest FROM trainings WHERE adapter_digest = ?", [row["adapter_digest"]]
        )
        if found not in [json.loads(one["manifest"]) for one in stored]:
            context.broken(where, f"Its manifest {shown} is not the one that was stored.")
    for column in ("adapter_digest", "base_digest", "parent_digest", "rows_digest", "rows"):
        if manifest.get(column) != row[column]:
            context.broken(where, f"Its {column} is {row[column]}, and that of its manifest is {manifest.get(column)}.")


def check_evaluation(context: Context, written: Written) -> None:
    """Hold the scores of an iteration to its candidate and its conversations, and those to their calls."""
    check_together(context, written.name, written)
    policy = context.row("policies", written.input("policy"))
    trained = context.row("trainings", written.input("adapter"))
    members = context.rows("evaluation_episodes", written.generation)
    for row in context.rows("evaluations", written.generation):
        where = f"evaluations {written.name} {row['side']}/{row['role']}"
        source = policy if row["side"] == "before" or trained is None else trained
        if source is not None:
            context.linked(where, row, source, ("policy_digest",), "policy")
        part = ("side", "role", "goal_kind")
        ids = [one["episode_id"] for one in members if all(one[name] == row[name] for name in part)]
        _check_mean(context, where, row, ids)
    _check_scores(context, written, members)
    _check_episodes(context, written, sorted({one["episode_id"] for one in members}))


def _check_scores(context: Context, written: Written, members: Sequence[Mapping[str, Any]]) -> None:
    """Compute the scores and the paired comparisons of an evaluation anew."""
    settings, source = context.settings(written), context.ancestor(written, "goals")
    environment = context.environment(source) if source is not None else None
    if settings is None or environment is None or source is None:
        return
    ids = sorted({one["episode_id"] for one in members})
    found = {episode.episode_id: episode for episode in stored_episodes(context.warehouse, ids)}
    tasks = context.tasks(source, {episode.goal_id for episode in found.values()})
    parts: dict[tuple[Side, Role], list[Episode]] = {}
    for one in members:
        if one["episode_id"] in found:
            parts.setdefault((one["side"], one["role"]), []).append(found[one["episode_id"]])
    stored = {(row["side"], row["role"]): row for row in context.rows("evaluations", written.generation)}
    for part, row in stored.items():
        right = score_record(score(parts[part], tasks, environment.fault), parts[part])
        _check_numbers(context, f"evaluations {written.name} {'/'.join(part)}", row, right, SCORED)
    compared_then = {(row["role"], row["metric"]): row for row in context.rows("comparisons", written.generation)}
    again = compared(settings, parts) if any(side == "before" for side, _ in parts) else ()
    for change in again:
        where = f"comparisons {written.name} {change.role}/{change.metric}"
        then = compared_then.pop((change.role, change.metric), None)
        if then is None:
            context.broken(where, "The comparison is missing.")
        else:
            _check_numbers(context, where, then, asdict(change), COMPARED)
    for role, metric in compared_then:
        context.broken(f"comparisons {written.name} {role}/{metric}", "No conversations were compared so.")
    for row in context.rows("drifts", written.generation):
        context.linked(f"drifts {written.name}", row, vars(settings.evaluation), ("max_drift",), "settings")
        after = stored.get(("after", GATE))
        if after is not None:
            context.linked(f"drifts {written.name}", row, after, ("policy_digest",), "evaluation")


def _check_numbers(
    context: Context, where: str, row: Mapping[str, Any], right: Mapping[str, Any], columns: Sequence[str]
) -> None:
    for column in columns:
        if not math.isclose(row[column], right[column], rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            message = f"Its {column} is {row[column]}, and its conversations give {right[column]}."
            context.broken(where, message)


def check_benchmark(context: Context, written: Written) -> None:
    """Hold a benchmark's scores to its conversations, and those to their calls."""
    row = context.row("benchmarks", written.generation)
    ids = [one["episode_id"] for one in context.rows("benchmark_episodes", written.generation)]
    if row is not None:
        _check_mean(context, f"benchmarks {written.name}", row, ids)
    _check_episodes(context, written, ids)


def _check_mean(context: Context, where: str, row: dict[str, Any], ids: list[str]) -> None:
    found = context.warehouse.rows(
        "SELECT coalesce(avg(reward), 0) AS mean_reward, coalesce(avg(success::INT), 0) AS success_rate, "
        "list(DISTINCT policy_digest) AS policies FROM episodes WHERE list_contains(?, episode_id)",
        [ids],
    )[0]
    for column in ("mean_reward", "success_rate"):
        if abs(found[column] - row[column]) > TOLERANCE:
            context.broken(where, f"Its {column} is {row[column]}, and its conversations give {found[column]}.")
    if found["policies"] not in (None, [], [row["policy_digest"]]):
        of = f"{sorted(found['policies'])}, not of {row['policy_digest']}"
        context.broken(where, f"Its conversations are of policies {of}.")


def _check_episodes(context: Context, written: Written, ids: Sequence[str]) -> None:
    source = context.ancestor(written, "goals")
    environment = context.environment(source) if source is not None else None
    for begin in range(0, len(ids), BATCH):
        batch = list(ids[begin : begin + BATCH])
        records = context.warehouse.rows("SELECT * FROM episodes WHERE list_contains(?, episode_id)", [batch])
        known = context.tasks(source, [row["goal_id"] for row in records]) if source is not None else {}
        for record in records:
            episode = episode_from_record(record)
            where = f"episodes {episode.episode_id}"
            context.audit.checked["conversations"] += 1
            if record["success"] != episode.success:
                message = f"Conversation {episode.episode_id} has reward {episode.reward} and success "
                context.broken(where, f"{message}{record['success']}.")
            # What a world did that raised is not among the calls.
            if environment is not None and episode.goal_id in known and episode.failure != "world":
                world = environment.world(known[episode.goal_id])
                context.broken(where, *episode_faults(episode, world))


def episode_faults(episode: Episode, world: World) -> list[str]:
    """Play a conversation's calls again and say where its rewards differ from what they earn."""
    name = f"Conversation {episode.episode_id}"
    try:
        made_again(world, episode.messages, episode.calls)
        earned, reward = tuple(sorted(world.milestones())), judged(world, episode.messages)
    except RolloutError as fault:
        return [f"{name}: its calls cannot be made again: {fault.message}"]
    found = []
    if episode.earned != earned:
        found.append(f"{name}: earned {episode.earned} is stored, {earned} is right.")
    if episode.reward != reward:
        found.append(f"{name}: reward {episode.reward} is stored, {reward} is right.")
    return found


def check_promotion(context: Context, written: Written) -> None:
    """Hold a promotion to the candidate and the policy that it decided between."""
    row = context.row("promotions", written.generation)
    if row is None:
        return
    where = f"promotions {row['policy_digest']}"
    check_together(context, where, written)
    evaluation = written.input("evaluation")
    measured = measured_digests(context.rows("evaluations", evaluation)) if evaluation is not None else set()
    if evaluation is not None and measured and measured != decided_digests(row):
        shown = " and ".join(f"{digest} ({side})" for side, digest in sorted(measured))
        message = f"It decided on {row['policy_digest']} against {row['previous_digest']}, and "
        message += f"{evaluation.key} generation {evaluation.number} measured {shown}."
        context.broken(where, message)
    policy = context.row("policies", written.input("policy"))
    trained = context.row("trainings", written.input("adapter"))
    if trained is not None:
        context.linked(where, row, trained, ("policy_digest", "adapter_digest", "adapter_path"), "training")
        if policy is not None and row["previous_digest"] != policy["policy_digest"]:
            message = f"It was held against policy {row['previous_digest']}, not against that of the iteration."
            context.broken(where, message)
    elif policy is not None:
        context.linked(where, row, policy, ("policy_digest",), "policy")
    if policy is not None:
        context.linked(where, row, policy, ("attempt", "line", "base_digest", "base_path"), "policy")
    right: bool | None = None
    if trained is None:
        right = True  # a base always stands
    elif evaluation is not None and measured:
        right = stored_gate(context.warehouse, evaluation).passed
    if right not in (None, row["promoted"]):
        decided, said = ("promoted" if one else "refused" for one in (right, row["promoted"]))
        context.broken(where, f"Its evaluation says that it is {decided}, and it was {said}.")
