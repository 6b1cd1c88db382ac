"""The store with a million nodes: the audit of one row, a rerun made current, the report's queries.

Run: python benchmarks/store.py [--nodes 1000000] [--home FOLDER] [--batch 100]

A home is made in FOLDER (kept, and used again where it is there), else in a temporary folder: the built-in
corpus with its goals, as the steps write them, and one iteration of generated trees, ~83 nodes each, with
calls, results, completions with token ids, labels, training rows and an evaluation. Trees are checkpointed in
batches, as a search does. Then, each in a process of its own, so that memory is its own:

- ``josh audit ROW``, the whole command with the start of Python, the median of five;
- making a rerun's generations current: trees' list, labels of every node, training rows;
- every query that the report makes, one by one, with the slowest named.

The limits are the project's promises; the exit status is 1 where one is missed.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from josh_pipeline.audit.chain import audit_row
from josh_pipeline.core.content import content_id, derived_seed
from josh_pipeline.core.environment import Environment, Role, Task
from josh_pipeline.core.messages import Message, ToolCall
from josh_pipeline.core.policy import Completion
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.core.world import CallRecord
from josh_pipeline.evaluation.benchmark import Episode, episode_id
from josh_pipeline.evaluation.summary import score
from josh_pipeline.harvest.harvest import harvest
from josh_pipeline.harvest.labels import relabel
from josh_pipeline.harvest.rows import row_record
from josh_pipeline.policies.weights import policy_digest
from josh_pipeline.report.load import load_report
from josh_pipeline.search.codec import node_records, tree_record
from josh_pipeline.search.rollouts import rollout_seed
from josh_pipeline.search.search import rollout_id
from josh_pipeline.search.tree import Node, Tree, Usage
from josh_pipeline.settings import Settings, load_settings
from josh_pipeline.stages.environment import stored_environment, stored_tasks
from josh_pipeline.stages.evaluation import score_record
from josh_pipeline.stages.labels import label_records, tree_label_record
from josh_pipeline.stages.playing import episode_record
from josh_pipeline.stages.registry import BY_NAME, open_home
from josh_pipeline.stages.stage import Step, base_scope, corpus_scope, goals_scope, start_step
from josh_pipeline.store.home import Home
from josh_pipeline.store.schema import columns
from josh_pipeline.store.warehouse import Generation, Warehouse

ITERATION = "001"
BEAM, ROUNDS, TURNS_BEFORE_SEARCH = 8, 12, 6
LIMITS = {"audit of one row": 1.0, "rerun made current": 10.0, "slowest query of the report": 2.0}
MEMORY_LIMIT = 2 * 2**30
AUDITS = 5
SPEECH = "There are several places that fit what you said so far. Which part of town would you like best?"
ANSWERS = ("I do not mind, as long as it is cheap.", "In the north, please.", "Is there one with parking?")
TOKENS = [tuple(random.Random(n).randrange(49_000) for _ in range(25)) for n in range(500)]
"""Token ids of completions: made once, for drawing them anew would take most of the time."""

Frames = dict[str, list[pl.DataFrame]]


def main() -> int:
    """Make the home where there is none, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=1_000_000)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--batch", type=int, default=100, help="trees a checkpoint")
    parser.add_argument("--part", choices=tuple(PARTS), help="measure only this, in this process")
    options = parser.parse_args()
    if options.part is not None:
        print(json.dumps(PARTS[options.part](open_home(options.home))))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.home or Path(temporary)
        if not (folder / "josh.duckdb").is_file():
            make(open_home(folder), options.nodes, options.batch)
        return measured(folder)


def measured(folder: Path) -> int:
    """Measure every part in a process of its own."""
    missed = False
    for part in PARTS:
        command = [sys.executable, __file__, "--home", str(folder), "--part", part]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(done.stderr)
            return 1
        found = json.loads(done.stdout.splitlines()[-1])
        late = found["seconds"] > LIMITS[part]
        large = found["peak"] > MEMORY_LIMIT
        missed |= late or large
        print(
            f"{part}: {found['seconds']:.2f} s (limit {LIMITS[part]:.0f} s), "
            f"peak memory {found['peak'] / 2**20:,.0f} MiB{' MISSED' * (late or large)}"
        )
        for line in found["details"]:
            print(f"  {line}")
    return int(missed)


def peak() -> int:
    """Largest resident memory of this process, bytes.

    Of Linux, for ``getrusage`` counts what the parent had when it forked.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024


def audit_of_a_row(home: Home) -> dict[str, Any]:
    """Audit one row in process, for its memory, then as a command, which is what is timed."""
    row = home.warehouse().rows("SELECT row_id FROM current_preference_rows ORDER BY md5(row_id) LIMIT 1")[0]["row_id"]
    began = time.monotonic()
    found = audit_row(home, row)
    alone = time.monotonic() - began
    assert not [one for one in found.audit.of("broken") if one.where.startswith(("nodes", "trees", "row"))]
    memory = peak()
    command = [sys.executable, "-m", "josh_pipeline.cli", "audit", row, "--home", str(home.root)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    times = []
    for _ in range(AUDITS):
        began = time.monotonic()
        subprocess.run(command, stdout=subprocess.DEVNULL, env=environment)
        times.append(time.monotonic() - began)
    return {
        "seconds": statistics.median(times),
        "peak": memory,
        "details": [
            f"slowest of {AUDITS}: {max(times):.2f} s; without the start of Python: {alone:.2f} s; "
            f"links: {len(found.links)}"
        ],
    }


def rerun(home: Home) -> dict[str, Any]:
    """Publish the iteration's rows again, as a rerun whose trees are all in the store does."""
    step = start_step(home, load_settings("quickstart"), "rerun", SilentProgress())
    warehouse = step.warehouse
    frames = {
        stage: {
            table: warehouse.query(f"SELECT {_written(table)} FROM current_{table} WHERE iteration = ?", [ITERATION])
            for table in tables
        }
        for stage, tables in (
            ("rollouts", ("rollouts",)),
            ("labels", ("labels", "tree_labels")),
            ("preferences", ("preference_rows", "row_nodes")),
        )
    }
    details = []
    whole = 0.0
    for stage, tables in frames.items():
        began = time.monotonic()
        warehouse.publish(stage, ITERATION, step.run_id, tables)
        seconds = time.monotonic() - began
        whole = max(whole, seconds)
        rows = ", ".join(f"{frame.height:,} {table}" for table, frame in tables.items())
        details.append(f"{stage}: {seconds:.2f} s ({rows})")
    return {"seconds": whole, "peak": peak(), "details": details}


def _written(table: str) -> str:
    """The columns of a table that a stage gives."""
    made_on_insert = {"iteration", "generation", "digest", "tree_digest"}
    return ", ".join(f'"{one.name}"' for one in columns()[table] if one.name not in made_on_insert)


def report_queries(home: Home) -> dict[str, Any]:
    """Load the report, each query timed."""
    timed: list[tuple[float, str]] = []

    class Watched(Warehouse):
        def query(self, sql: str, parameters: Any = ()) -> pl.DataFrame:
            began = time.monotonic()
            found = super().query(sql, parameters)
            timed.append((time.monotonic() - began, sql))
            return found

    began = time.monotonic()
    load_report(Watched(home.store, home.layout))
    whole = time.monotonic() - began
    memory = peak()
    slowest = sorted(timed, reverse=True)[:3]
    details = [f"all {len(timed)} queries and the figures' data: {whole:.2f} s"]
    details += [f"{seconds:.2f} s: {' '.join(sql.split())[:110]}" for seconds, sql in slowest]
    return {"seconds": slowest[0][0], "peak": memory, "details": details}


PARTS: dict[str, Callable[[Home], dict[str, Any]]] = {
    "audit of one row": audit_of_a_row,
    "rerun made current": rerun,
    "slowest query of the report": report_queries,
}


def make(home: Home, nodes: int, batch: int) -> None:
    """Write the home."""
    settings = load_settings("quickstart", {"training": {"method": "kto"}})
    step = start_step(home, settings, "benchmark", SilentProgress())
    for stage in ("corpus", "goals"):
        BY_NAME[stage].run(step, None)
    write_base(step)
    baseline = write_policy(step, "000", None)
    write_evaluation(step, "000", None, "base", [baseline])
    policy = write_policy(step, ITERATION, "000")
    environment = stored_environment(step.warehouse, settings.environment, corpus_scope(settings), sources=False)
    goals = goals_of(step, environment, "train")
    written = 0
    ids: list[str] = []
    collected: Frames = {"labels": [], "tree_labels": [], "preference_rows": [], "row_nodes": []}
    began = time.monotonic()
    checkpointing = 0.0
    while written < nodes:
        trees = [grown(settings, goals[(len(ids) + n) % len(goals)], len(ids) + n, environment) for n in range(batch)]
        ids += [tree.rollout_id for tree in trees]
        written += sum(len(tree.nodes) for tree in trees)
        marks = {"run_id": step.run_id, "simulated_user": "agenda"}
        records = [tree_record(tree) | marks for tree in trees]
        made = [record for tree in trees for record in node_records(tree)]
        start = time.monotonic()
        step.warehouse.append({"trees": records, "nodes": made}, key="rollout_id")
        checkpointing += time.monotonic() - start
        collect(collected, trees, goals, environment)
    print(
        f"made {written:,} nodes in {len(ids):,} trees in {time.monotonic() - began:.0f} s, "
        f"of which {checkpointing:.0f} s checkpoints",
        flush=True,
    )
    publish_rows(step, ids, collected, policy)


def goals_of(step: Step, environment: Environment[Any], role: Role) -> list[Any]:
    """Return the goals of a role."""
    scope = goals_scope(step.settings)
    return stored_tasks(step.warehouse, scope, of=environment.Task, kind=environment.played, role=role)


def collect(frames: Frames, trees: list[Tree], goals: list[Task], environment: Environment[Any]) -> None:
    """Label and harvest a batch, as the steps do."""
    by_id = {goal.goal_id: goal for goal in goals}
    nodes, whole = [], []
    for tree in trees:
        labels = relabel(tree, environment.world(by_id[tree.goal_id], searching=True))
        about = {"rollout_id": tree.rollout_id, "agrees": True, "difference": None}
        nodes += [about | record for record in label_records(labels)]
        whole.append(tree_label_record(tree, labels) | {"agrees": True})
    found = harvest(trees, "kto", "messages", "partial", frozenset())
    begin = sum(frame.height for frame in frames["preference_rows"])
    rows = [row_record(row) | {"position": begin + n} for n, row in enumerate(found.rows)]
    frames["labels"].append(pl.DataFrame(nodes, schema_overrides={"difference": pl.String}))
    frames["tree_labels"].append(pl.DataFrame(whole))
    frames["preference_rows"].append(pl.DataFrame(rows, infer_schema_length=None))
    frames["row_nodes"].append(pl.DataFrame([asdict(origin) for origin in found.origins]))


def publish_rows(step: Step, ids: list[str], frames: Frames, policy: Generation) -> None:
    """Write the generations of the iteration, up to its evaluation."""
    began = time.monotonic()
    whole = {table: pl.concat(parts) for table, parts in frames.items()}
    members = pl.DataFrame({"position": range(len(ids)), "rollout_id": ids})
    rollouts = step.warehouse.publish("rollouts", ITERATION, step.run_id, {"rollouts": members}, [policy])
    tables = {table: whole[table] for table in ("labels", "tree_labels")}
    labels = step.warehouse.publish("labels", ITERATION, step.run_id, tables, [policy, rollouts])
    # A row can come from several trees; the batches were harvested one by one.
    rows = whole["preference_rows"].unique("row_id", keep="first", maintain_order=True)
    tables = {"preference_rows": rows, "row_nodes": whole["row_nodes"].unique()}
    sources = [policy, rollouts, labels]
    found = step.warehouse.publish("preferences", ITERATION, step.run_id, tables, sources)
    print(f"published in {time.monotonic() - began:.0f} s", flush=True)
    adapter = content_id("adapter")
    training = {
        "policy_digest": policy_digest("base", adapter), "adapter_digest": adapter,
        "adapter_path": f"adapters/{adapter}", "base_digest": "base", "parent_digest": None,
        "rows_digest": content_id(sorted(rows["row_id"])), "method": "kto", "rows": rows.height,
        "tokens": 0, "seconds": 1.0, "manifest": "{}",
    }  # fmt: skip
    trained = step.warehouse.publish("adapter", ITERATION, step.run_id, {"trainings": [training]}, [policy, found])
    write_evaluation(step, ITERATION, "base", str(training["policy_digest"]), [policy, trained])


def grown(settings: Settings, goal: Task, number: int, environment: Environment[Any]) -> Tree:
    """Grow a tree: talk in every branch, then the first ones search rightly and the tree collapses."""
    draw = random.Random(number)
    seed = rollout_seed(derived_seed("iteration", settings.seed, ITERATION), number)
    name = rollout_id("base", goal.goal_id, seed, "benchmark")
    world = environment.world(goal, searching=True)
    wanted = goal.calls[0]
    arguments = dict(wanted.parameters)
    result = world.call(wanted.tool, arguments)
    earned = tuple(sorted(world.milestones()))
    nodes: list[Node] = []

    def add(path: tuple[int, ...], last: bool, kept: bool) -> None:
        messages: tuple[Message, ...] = (Message("user", f"Hello, I need help. {goal.message[0]}"),)
        calls: tuple[CallRecord, ...] = ()
        if path:
            answer = draw.choice(ANSWERS)
            messages = (Message("assistant", SPEECH), Message("user", answer))
        searching = len(path) == TURNS_BEFORE_SEARCH and kept
        if searching:
            text = json.dumps({"name": wanted.tool, "parameters": arguments})
            messages = (
                Message("assistant", text, (ToolCall(wanted.tool, arguments),)),
                Message("tool", json.dumps(result.payload)[:600]),
                Message("assistant", "I found one."),
                Message("user", "Thank you."),
            )
            calls = (CallRecord(wanted.tool, arguments, result.payload, result.brief, result.error, earned),)
        completions = tuple(
            Completion(
                text=message.content, tool_calls=(), token_ids=draw.choice(TOKENS),
                finish_reason="stop", prompt_tokens=400, cached_tokens=380, completion_tokens=25,
                prompt_digest=content_id(path, number),
            )
            for message in messages if message.role == "assistant"
        )  # fmt: skip
        on_path = kept and len(path) <= TURNS_BEFORE_SEARCH
        nodes.append(
            Node(
                node_id=content_id(name, path), parent_id=content_id(name, path[:-1]) if path else None,
                path=path, round=len(path), messages=messages, completions=completions, calls=calls,
                earned=earned if searching else (), golden=on_path, successful=on_path, error_turn=False,
                failure=None, failure_message=None, end="rounds_spent" if last else None, told=None,
            )
        )  # fmt: skip

    live: list[tuple[int, ...]] = [()]
    add((), False, True)
    for round_ in range(1, ROUNDS + 1):
        width = 2 if 2 * len(live) <= BEAM else 1
        live = [(*path, index) for path in live for index in range(width)]
        for path in live:
            add(path, round_ == ROUNDS, not any(path))
    reward = len(earned) / len(goal.calls)
    return Tree(
        rollout_id=name, goal_id=goal.goal_id, policy_digest="base", seed=seed, settings_digest="benchmark",
        system="You help people in town.", tools=(), nodes=tuple(nodes), earned=earned, reward=reward,
        rounds=ROUNDS, failure=None, failure_message=None, usage=usage(),
    )  # fmt: skip


def usage() -> Usage:
    """What a conversation cost, made up."""
    return Usage(requests=90, prompt_tokens=36_000, completion_tokens=2_250, seconds=3.0)


def write_base(step: Step) -> None:
    """Write a base without files."""
    row = {
        "base_digest": "base", "model": "generated", "foundation_digest": "base", "foundation_path": "",
        "adapter_digest": None, "adapter_path": None, "base_path": "", "demonstrations": 0, "tokens": 0,
        "seconds": 0.0, "record": "{}",
    }  # fmt: skip
    step.warehouse.publish("cold_start", base_scope(step.settings), step.run_id, {"base_models": [row]})


def write_policy(step: Step, iteration: str, predecessor: str | None) -> Generation:
    """Write an iteration's policy: the base."""
    corpus = step.warehouse.rows("SELECT * FROM current_corpora")[0]
    row = {
        "policy_digest": "base", "kind": "base", "attempt": 1, "line": "line", "predecessor": predecessor,
        "corpus": corpus["name"], "corpus_digest": corpus["corpus_digest"], "corpus_scope": corpus["scope"],
        "goals_scope": goals_scope(step.settings), "base_scope": base_scope(step.settings),
        "base_digest": "base", "base_path": "", "adapter_digest": None, "adapter_path": None,
        "model": "generated",
    }  # fmt: skip
    inputs = [
        Generation("goals", goals_scope(step.settings), 1),
        Generation("cold_start", base_scope(step.settings), 1),
    ]
    return step.warehouse.publish("policy", iteration, step.run_id, {"policies": [row]}, inputs)


def write_evaluation(step: Step, iteration: str, before: str | None, after: str, inputs: list[Generation]) -> None:
    """Write an evaluation of both sides on test goals: 150 conversations each."""
    environment = stored_environment(
        step.warehouse, step.settings.environment, corpus_scope(step.settings), sources=False
    )
    goals = goals_of(step, environment, "test")[:150]
    by_id = {goal.goal_id: goal for goal in goals}
    sides = {"after": after} | ({"before": before} if before else {})
    members, scores = [], []
    for side, policy in sides.items():
        played = [conversation(goal, policy, number) for number, goal in enumerate(goals)]
        records = [episode_record(one) | {"run_id": step.run_id} for one in played]
        step.warehouse.append({"episodes": records}, key="episode_id")
        about = {"side": side, "role": "test", "goal_kind": "part"}
        members += [about | {"episode_id": one.episode_id} for one in played]
        scores.append(about | score_record(score(played, by_id, environment.fault), played))
    tables = {"evaluation_episodes": members, "evaluations": scores}
    step.warehouse.publish("evaluation", iteration, step.run_id, tables, inputs)


def conversation(goal: Task, policy: str, number: int) -> Episode:
    """Return a conversation in which every second goal is solved."""
    solved = number % 2 == 0
    return Episode(
        episode_id=episode_id(policy, goal.goal_id, number, "benchmark"), goal_id=goal.goal_id,
        policy_digest=policy, seed=number, settings_digest="benchmark", trial=0,
        messages=(Message("user", "Hello."), Message("assistant", SPEECH)), calls=(),
        earned=tuple(range(len(goal.calls))) if solved else (), reward=float(solved), turns=1,
        error_turns=0, user_done=True, failure=None, failure_message=None, usage=usage(),
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
