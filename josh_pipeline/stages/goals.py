"""Stage goals: what users want, with roles; and which of them an attempt searches."""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from josh_pipeline.core.environment import ROLES, Environment, Role, T, Task
from josh_pipeline.core.errors import UserError
from josh_pipeline.core.oracle import solved_by_oracle
from josh_pipeline.core.promises import check_playable, kept_tasks
from josh_pipeline.dialogue.demonstrations import Ceiling, user_ceiling
from josh_pipeline.environments.registry import DEFAULT, environment_class
from josh_pipeline.evaluation.benchmark import episode_seed
from josh_pipeline.search.selection import EVALUATION_SEED, evaluation_goals
from josh_pipeline.settings import Settings
from josh_pipeline.stages.environment import adapter, stored_environment, stored_tasks
from josh_pipeline.stages.forkable import FORKABLE, SOUND, environment_verdicts
from josh_pipeline.stages.stage import Check, Made, Stage, Step, Verdict, corpus_scope, goals_scope
from josh_pipeline.store.warehouse import Generation, Warehouse


def evaluated_goals(step: Step, scope: str, environment: Environment[T]) -> dict[Role, list[T]]:
    """Return the goals that policies are evaluated on, by role."""
    numbers: dict[Role, int] = {"val": step.settings.evaluation.val_goals, "test": step.settings.evaluation.test_goals}
    return {
        role: evaluation_goals(
            stored_tasks(step.warehouse, scope, of=environment.Task, kind=environment.played, role=role), number
        )
        for role, number in numbers.items()
    }


def solvable_goals(warehouse: Warehouse, scope: str, environment: Environment[T], kind: str) -> list[T]:
    """Return the training goals of a kind that an oracle solves, or that nobody knows an oracle of."""
    unsolvable = set(
        warehouse.query("SELECT goal_id FROM current_solvability WHERE scope = ? AND NOT solvable", [scope])["goal_id"]
    )
    goals = stored_tasks(warehouse, scope, of=environment.Task, kind=kind, role="train")
    return [goal for goal in goals if goal.goal_id not in unsolvable]


def played_before(warehouse: Warehouse, policy: Any) -> dict[str, int]:
    """Return how many attempts of the same line before this one searched each goal.

    Args:
        policy: of the attempt, a ``PolicyRow``.
    """
    found = warehouse.rows(
        "SELECT t.goal_id, count(DISTINCT (p.iteration, p.attempt)) AS n FROM policies p "
        "JOIN generation_inputs i ON i.stage = 'rollouts' AND i.input_stage = 'policy' "
        "AND i.input_scope = p.iteration AND i.input_generation = p.generation "
        "JOIN rollouts r ON r.iteration = i.scope AND r.generation = i.generation "
        "JOIN trees t USING (rollout_id) "
        "WHERE p.line = ? AND (p.iteration, p.attempt) < (?, ?) GROUP BY 1",
        [policy.line, policy.iteration, policy.attempt],
    )
    return {one["goal_id"]: one["n"] for one in found}


def looped_kinds(environment: Environment[Any]) -> dict[str, set[Role]]:
    """Return the kinds of goals that a loop needs, each with its roles: what is evaluated, and what rounds search.

    A curriculum has left its first round behind in the second, so that two rounds tell of all.
    """
    kinds: dict[str, set[Role]] = {environment.played: {"val", "test"}}
    for number in (1, 2):
        kinds.setdefault(environment.searched(number), set()).add("train")
    return kinds


LEAST_CEILING = 0.99
"""Below this share of tasks that a perfect agent solves, the simulated user is what is measured."""


def store_goals(step: Step, scope: str) -> Made:
    """Write the tasks of the stored environment, and whether an oracle solves them.

    Raises:
        UserError: the environment is not in the store or has changed since it was read, gives no usable task
            for a role, or breaks what it promises of them.
        RefusedError: it breaks what a search relies on.
    """
    source = step.require("corpus", corpus_scope(step.settings))
    environment = stored_environment(step.warehouse, step.settings.environment, source.scope, sources=True)
    tasks = kept_tasks(environment)
    require_unchanged(step, source, environment)
    for task in tasks:
        if task.excluded is None:
            check_playable(environment, task)
    usable = Counter((task.kind, task.role) for task in tasks if task.excluded is None)
    for kind, roles in looped_kinds(environment).items():
        if missing := [role for role in ROLES if role in roles and not usable[kind, role]]:
            raise UserError(
                f"{environment.snapshot().name} has no usable {kind} of role {' and '.join(missing)}: "
                "each role needs one, so choose another source, or allow more of it in the settings of the environment."
            )
    verdicts = environment_verdicts(environment, step.progress)
    solved = oracle_verdicts(environment, tasks)
    tables = {"goals": task_records(environment, tasks), "solvability": solved}
    generation = step.warehouse.publish("goals", scope, step.run_id, tables, inputs=[source])
    solvable = {row["goal_id"] for row in solved if row["solvable"]}
    excluded = Counter(task.excluded for task in tasks if task.excluded)
    return Made(
        generation,
        version=step.warehouse.content_of(generation),
        rows=sum(usable.values()),
        facts={
            "corpus": environment.snapshot().name,
            "roles": environment.roles_sentence(),
            "excluded goals": dict(excluded),
        },
        tables={
            "usable goals": [
                {"kind": kind}
                | {role: usable[kind, role] for role in ROLES}
                | {"solved by an oracle": sum(t.kind == kind and t.goal_id in solvable for t in tasks)}
                for kind in environment.kinds
                if any(usable[kind, role] for role in ROLES)
            ]
        },
        verdicts={
            **verdicts,
            "goals_solvable": goals_solvable(step, environment, scope),
            "user_ceiling": ceiling_high(step, environment, scope),
        },
    )


def require_unchanged(step: Step, source: Generation, environment: Environment[Any]) -> None:
    """Hold an environment to what was read of it: a class of one's own may have been edited since.

    Raises:
        UserError: its digest is another.
    """
    if environment.snapshot().digest != step.warehouse.written("corpora", source)[0]["corpus_digest"]:
        asset = step.asset("corpus")
        raise UserError(f"The environment has changed since {asset} was made: materialize {asset} again first.")


def oracle_verdicts(environment: Environment[T], tasks: Sequence[T]) -> list[dict[str, Any]]:
    """Return the rows of table ``solvability``: none where there is no oracle."""
    found = [(task, solved_by_oracle(environment, task)) for task in tasks]
    return [
        {"goal_id": task.goal_id, "reward": one.reward, "solvable": one.solvable, "missed": list(one.missed)}
        for task, one in found
        if one is not None
    ]


def task_records(environment: Environment[T], tasks: Sequence[T]) -> list[dict[str, Any]]:
    """Return the rows of table ``goals``."""
    digest = environment.snapshot().digest
    return [
        {
            "corpus_digest": digest,
            "position": position,
            **{one.name: getattr(task, one.name) for one in fields(Task)},
            "message": json.dumps(task.message),
            "calls": json.dumps([{"tool": c.tool, "parameters": c.parameters} for c in task.calls]),
            "task": adapter(environment.Task).dump_json(task).decode(),
        }
        for position, task in enumerate(tasks)
    ]


def ceiling_on(environment: Environment[T], goals: Sequence[T], settings: Settings) -> Ceiling | None:
    """Play goals with an agent that makes no mistake, as the evaluation plays them: its users and limits.

    Returns:
        None without goals, without such an agent, and for users that are no rules: a scripted agent cannot
        tell what a model wants.
    """
    if settings.user.kind != "agenda" or not goals:
        return None
    return asyncio.run(
        user_ceiling(
            environment,
            goals,
            lambda goal: episode_seed(EVALUATION_SEED, goal.goal_id, 0),
            max_turns=settings.user.max_turns,
            max_messages=settings.evaluation.max_messages,
            max_requests=settings.evaluation.max_requests,
        )
    )


def goals_solvable(step: Step, environment: Environment[T], scope: str) -> Verdict:
    """Count, for each kind and role of the loop, the goals that an oracle solves by making the wanted calls."""
    found = {
        (row["kind"], row["role"]): (row["solvable"], row["goals"])
        for row in step.warehouse.rows(
            "SELECT kind, role, count(*) AS goals, count(*) FILTER (solvable) AS solvable "
            "FROM current_goals JOIN current_solvability USING (scope, goal_id) "
            "WHERE scope = ? AND excluded IS NULL GROUP BY kind, role",
            [scope],
        )
    }
    wanted = {kind: [role for role in ROLES if role in roles] for kind, roles in looped_kinds(environment).items()}
    counts = {(kind, role): found[kind, role] for kind in wanted for role in wanted[kind] if (kind, role) in found}
    if not counts:
        return Verdict(True, "Nobody knows calls that solve these goals.")
    shares = {part: solved / goals for part, (solved, goals) in counts.items()}
    words = ", ".join(f"{kind} {role} {solved} of {goals}" for (kind, role), (solved, goals) in counts.items())
    passed = len(shares) == sum(map(len, wanted.values())) and min(shares.values()) >= environment.least_solvable
    advice = "" if passed else f" Under {environment.least_solvable:.0%} somewhere: look for the causes."
    return Verdict(
        passed,
        f"An oracle solves, of the goals by kind and role: {words}. The unsolvable are not rolled out.{advice}",
        {f"solvable share, {kind} {role}": round(share, 4) for (kind, role), share in shares.items()},
    )


def ceiling_high(step: Step, environment: Environment[T], scope: str) -> Verdict:
    """Let a careful script play the goals of the evaluation: what the rule-based user lets anybody reach."""
    settings = step.settings
    if settings.user.kind != "agenda":
        return Verdict(True, f"The {settings.user.kind} user has no ceiling that a script could measure.")
    found = ceiling_on(environment, evaluated_goals(step, scope, environment)["test"], settings)
    if found is None:
        return Verdict(True, "The environment has no scripted agent that a ceiling could be measured with.")
    passed = found.share >= LEAST_CEILING
    advice = "" if passed else " Scores under this user say little about an agent."
    return Verdict(
        passed,
        f"A perfect agent solves {found.full_reward} of {found.n} test goals with this user.{advice}",
        {"ceiling": round(found.share, 4), "goals": found.n, "goals nobody solves": len(found.failures)},
    )


STAGE = Stage(
    name="goals",
    asset=environment_class(DEFAULT).tasks_asset,
    about="What each user wants, with the tool calls that earn the reward, and the role of each goal: `train` "
    "is harvested, `val` gates promotion, `test` is what figures show.",
    tables={"goals": ("goal_id",), "solvability": ("goal_id",)},
    inputs=("corpus",),
    make=store_goals,
    scope="scope",
    scope_of=goals_scope,
    checks=(
        FORKABLE,
        SOUND,
        Check("goals_solvable", "Making the wanted calls earns the full reward on nearly all goals."),
        Check(
            "user_ceiling",
            "A careful script that understands the simulated user perfectly solves most of the test goals: "
            "what the user lets anybody reach bounds every score.",
        ),
    ),
    sample="SELECT goal_id AS goal, source_id AS source, kind, role, message, calls FROM current_goals "
    "WHERE scope = ? AND excluded IS NULL ORDER BY kind, position",
    origins={
        "goals.corpus_digest": ["corpora.corpus_digest"],
        "goals.source_id": ["sources.source_id"],
        "goals.split": ["sources.split"],
        "goals.role": ["sources.split", "sources.source_id"],
        "goals.message": ["sources.content"],
        "goals.calls": ["sources.content"],
        "goals.task": ["sources.content"],
        "solvability.reward": ["entities.content"],
    },
)
