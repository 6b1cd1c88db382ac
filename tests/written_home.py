"""A home with a base and two rounds, the second refused, written as the steps write it, without playing.

It costs a corpus of 60 dialogues; a test that changes it opens a copy.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from report_samples import conversation, grown_tree

from josh_pipeline.core.environment import Task
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.environments.toolwoz.goal import Goal
from josh_pipeline.evaluation.benchmark import Episode
from josh_pipeline.evaluation.statistics import paired_bootstrap
from josh_pipeline.evaluation.summary import score
from josh_pipeline.search.codec import node_records, tree_record
from josh_pipeline.search.tree import Usage
from josh_pipeline.settings import load_settings
from josh_pipeline.stages.environment import stored_tasks
from josh_pipeline.stages.evaluation import score_record
from josh_pipeline.stages.playing import episode_record
from josh_pipeline.stages.registry import BY_NAME, open_home
from josh_pipeline.stages.stage import Step, base_scope, corpus_scope, goals_scope, start_step
from josh_pipeline.store.warehouse import Generation, Warehouse

SUCCESSES = {"base": 2, "one": 6, "two": 5, "three": 7}
GOALS = 8


def episodes(goals: Sequence[Task], policy: str) -> list[Episode]:
    """The first goals are solved; round two loses goal 0, which the others solve."""
    solved = set(range(SUCCESSES[policy])) ^ ({0} if policy == "two" else set())
    return [
        Episode(
            episode_id=f"{policy}-{goal.goal_id}", goal_id=goal.goal_id, policy_digest=policy, seed=index,
            settings_digest="s", trial=0, retry=0, messages=conversation(f"I am policy {policy}."), calls=(),
            earned=tuple(range(len(goal.calls))) if index in solved else (),
            reward=1.0 if index in solved else 0.0, turns=2, error_turns=0, user_done=True, failure=None,
            failure_message=None, usage=Usage(3, 0, 1_200, 900, 60, 0, 0, 0, 0, 0.02, 1.5),
        )
        for index, goal in enumerate(goals)
    ]  # fmt: skip


def write_base(step: Step) -> None:
    scope = base_scope(step.settings)
    base = {
        "base_digest": "base", "model": "smollm2", "foundation_digest": "f", "foundation_path": "models/f",
        "adapter_digest": "a0", "adapter_path": "adapters/a0", "base_path": "models/base",
        "demonstrations": 4, "tokens": 900, "seconds": 12.5, "record": "{}",
    }  # fmt: skip
    demonstrations = [
        {"position": i, "goal_id": "g", "source_id": "d", "messages": "[]", "reward": r}
        for i, r in enumerate((1.0, 1.0, 0.5, 0.0))
    ]
    curve = [{"step": s, "point": json.dumps({"step": s, "loss": 2.0 / s})} for s in (1, 2, 3)]
    tables = {"base_models": [base], "demonstrations": demonstrations, "cold_start_curves": curve}
    step.warehouse.publish("cold_start", scope, step.run_id, tables)


def made_from(step: Step, iteration: str, *stages: str) -> list[Generation]:
    found = [step.warehouse.current(stage, iteration) for stage in stages]
    return [one for one in found if one is not None]


def write_policy(
    step: Step, iteration: str, digest: str, predecessor: str | None, attempt: int = 1, line: str = "line"
) -> None:
    row = {
        "policy_digest": digest, "kind": "adapter", "attempt": attempt, "line": line,
        "predecessor": predecessor,
        "corpus": "sample-40", "corpus_digest": "c", "corpus_scope": corpus_scope(step.settings),
        "goals_scope": goals_scope(step.settings), "base_scope": base_scope(step.settings),
        "base_digest": "base", "base_path": "models/base", "adapter_digest": None, "adapter_path": None,
        "model": "smollm2",
    }  # fmt: skip
    step.warehouse.publish("policy", iteration, step.run_id, {"policies": [row]})


def write_round(step: Step, iteration: str, trained_from: str, candidate: str) -> None:
    warehouse = step.warehouse
    goal = stored_tasks(warehouse, goals_scope(step.settings), kind="part", role="train")[0]
    whole = replace(
        grown_tree(rounds=6, collapses=(4,), seed=int(iteration)), rollout_id=f"tree-{iteration}",
        goal_id=goal.goal_id, reward=1.0, policy_digest=trained_from,
    )  # fmt: skip
    failed = replace(
        grown_tree(rounds=0), rollout_id=f"failed-{iteration}", goal_id=goal.goal_id, seed=100 + int(iteration),
        failure="timeout", failure_message="no answer", reward=0.0, earned=(),
    )  # fmt: skip
    for tree in (whole, failed):
        marked = tree_record(tree) | {"run_id": "r", "simulated_user": "agenda v1"}
        warehouse.append({"trees": [marked], "nodes": node_records(tree)}, key="rollout_id")
    members = [{"position": i, "rollout_id": t.rollout_id} for i, t in enumerate((whole, failed))]
    inputs = made_from(step, iteration, "policy")
    warehouse.publish("rollouts", iteration, step.run_id, {"rollouts": members}, inputs)
    golden = [node for node in whole.nodes if node.golden and node.round]
    beside = next(node for node in whole.nodes if not node.successful)
    links = [(f"row-{i}", node.node_id, True) for i, node in enumerate(golden)]
    links.append(("row-bad", beside.node_id, False))
    rows = [
        {
            "position": i, "row_id": row, "method": "kto", "goal_id": goal.goal_id,
            "rollout_id": whole.rollout_id, "policy_digest": "p", "tools": "[]", "prompt": "[]",
            "sides": "[]", "label": "desirable" if desirable else "undesirable", "tokens": 100,
        }
        for i, (row, _, desirable) in enumerate(links)
    ]  # fmt: skip
    nodes_ = [
        {"row_id": row, "node_id": node, "rollout_id": whole.rollout_id, "part": "completion"} for row, node, _ in links
    ]
    tables = {"preference_rows": rows, "row_nodes": nodes_}
    inputs = made_from(step, iteration, "policy", "rollouts")
    warehouse.publish("preferences", iteration, step.run_id, tables, inputs)
    training = {
        "policy_digest": candidate, "adapter_digest": f"a-{candidate}", "adapter_path": "adapters/x",
        "base_digest": "base", "parent_digest": None, "rows_digest": "d", "method": "kto", "rows": len(rows),
        "tokens": 700, "seconds": 3.0, "manifest": "{}",
    }  # fmt: skip
    curve = [{"step": s, "point": json.dumps({"loss": 0.5 / s})} for s in (1, 2)] + [
        {"step": 3, "point": json.dumps({"train_runtime": 3.0})}
    ]
    tables = {"trainings": [training], "training_curves": curve}
    inputs = made_from(step, iteration, "policy", "preferences")
    warehouse.publish("adapter", iteration, step.run_id, tables, inputs)


def write_evaluation(step: Step, iteration: str, before: str | None, after: str) -> None:
    goals = stored_tasks(step.warehouse, goals_scope(step.settings), of=Goal, kind="part", role="test")[:GOALS]
    by_id = {goal.goal_id: goal for goal in goals}
    sides = {"after": after} | ({"before": before} if before else {})
    played = {side: episodes(goals, policy) for side, policy in sides.items()}
    for found in played.values():
        records = [episode_record(episode) | {"run_id": "r"} for episode in found]
        step.warehouse.append({"episodes": records}, key="episode_id")
    tables = {
        "evaluation_episodes": [
            {"side": side, "role": role, "goal_kind": "part", "episode_id": episode.episode_id}
            for side, found in played.items()
            for role in ("test",)
            for episode in found
        ],
        "evaluations": [
            {"side": side, "role": role, "goal_kind": "part"}
            | score_record(score(found, by_id, lambda call: "refused"), found)
            for side, found in played.items()
            for role in ("val", "test")
        ],
    }
    if before:
        old, new = ([float(e.success) for e in played[side]] for side in ("before", "after"))
        change = paired_bootstrap(old, new, 200)
        comparison = {
            "role": "test", "goal_kind": "part", "metric": "success", "n": change.n,
            "before": sum(old) / len(old), "after": sum(new) / len(new), "difference": change.diff,
            "low": change.low, "high": change.high,
        }  # fmt: skip
        tables["comparisons"] = [comparison]
    drift = {
        "policy_digest": after, "foundation_digest": "f", "texts_digest": "t",
        "drift": 0.5 + 0.1 * int(iteration),
        "low": 0.4, "high": 0.9, "texts": 40, "tokens": 651, "by_kind": '{"chat": 0.8, "code": 0.4}',
        "reason": None, "max_drift": 1.5,
    }  # fmt: skip
    if after == "two":
        drift |= dict.fromkeys(("drift", "low", "high", "texts", "tokens", "by_kind"))
        drift |= {"reason": "The weights are elsewhere."}
    tables["drifts"] = [drift]
    inputs = made_from(step, iteration, "policy", "adapter")
    step.warehouse.publish("evaluation", iteration, step.run_id, tables, inputs)


def write_promotion(step: Step, iteration: str, candidate: str, promoted: bool, attempt: int = 1) -> None:
    row = {
        "attempt": attempt, "line": "line", "promoted": promoted, "reason": f"Said of {candidate}.",
        "policy_digest": candidate,
        "base_digest": "base", "base_path": "models/base", "adapter_digest": None, "adapter_path": None,
        "previous_digest": None,
    }  # fmt: skip
    inputs = made_from(step, iteration, "policy", "evaluation", "adapter")
    step.warehouse.publish("promotion", iteration, step.run_id, {"promotions": [row]}, inputs)


def open_step(folder: Path) -> Step:
    settings = load_settings(
        "quickstart",
        {
            "environment": {
                "corpus": {"sample_dialogues": 60},
                "goals": {"domains": ["hotel", "restaurant", "attraction", "train"]},
            },
            "evaluation": {"bootstrap": 200},
        },
    )
    return start_step(open_home(folder), settings, "run-1", SilentProgress())


def written_home(folder: Path) -> Warehouse:
    """Write the home."""
    step = open_step(folder)
    for stage in ("corpus", "goals"):
        BY_NAME[stage].run(step, None)
    write_base(step)
    write_policy(step, "000", "base", None)
    write_evaluation(step, "000", None, "base")
    write_promotion(step, "000", "base", True)
    for iteration, before, after, promoted in (("001", "base", "one", True), ("002", "one", "two", False)):
        write_policy(step, iteration, before, f"{int(iteration) - 1:03d}")
        write_round(step, iteration, before, after)
        write_evaluation(step, iteration, before, after)
        write_promotion(step, iteration, after, promoted)
    return step.warehouse


def copied_step(warehouse: Warehouse, folder: Path) -> Step:
    """Copy the home, so that a test may change it."""
    shutil.copy(warehouse.path, folder / warehouse.path.name)
    return open_step(folder)
