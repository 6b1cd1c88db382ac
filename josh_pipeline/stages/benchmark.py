"""Stage ``benchmark``: one policy on goals of one's own choice, apart from the loop."""

from dataclasses import dataclass, replace
from typing import Any

from josh_pipeline.core.content import content_id
from josh_pipeline.core.environment import ROLES, Environment, Task
from josh_pipeline.core.errors import UserError
from josh_pipeline.dialogue.demonstrations import Ceiling
from josh_pipeline.environments.registry import DEFAULT
from josh_pipeline.evaluation.summary import Score, score
from josh_pipeline.search.selection import drawn
from josh_pipeline.stages.environment import stored_environment, stored_tasks
from josh_pipeline.stages.evaluation import breakdowns, score_record
from josh_pipeline.stages.goals import ceiling_on
from josh_pipeline.stages.playing import environment_of, played_episodes, usage_facts
from josh_pipeline.stages.policy import PolicyRow, played_columns, policy_of, with_adapter
from josh_pipeline.stages.promotion import newest_promotion
from josh_pipeline.stages.stage import Made, Stage, Step, base_scope, known_key
from josh_pipeline.store.layout import Members
from josh_pipeline.store.warehouse import Generation, Warehouse


@dataclass(frozen=True)
class Benchmark:
    """A score, and what it is the score of.

    Attributes:
        iteration: the iteration that made the policy; ``''`` for one that no iteration made.
        corpus: name of the corpus.
        selection: a role, or a published selection of the environment.
        kind: of the goals.
        goals: what goals of this kind are called.
        ceiling: what a perfect agent reaches on the same goals; None where nobody knows.
    """

    generation: Generation
    iteration: str
    corpus: str
    selection: str
    kind: str
    goals: str
    score: Score
    ceiling: Ceiling | None


def benchmark(step: Step, policy: str, selection: str, kind: str | None, trials: int, number: int | None) -> Benchmark:
    """Evaluate a policy and store the score.

    Args:
        policy: ``latest``, ``base``, an iteration, or the first digits of a policy's digest.
        selection: a role, or a published selection of the environment.
        kind: of the goals; None for what the settings play, or for what the selection is of.
        number: goals at most; None for all of the selection.
        trials: conversations a goal.

    Raises:
        UserError: there is no such policy or selection, or too many conversations failed.
    """
    return play_and_score(step, chosen_policy(step, policy), selection, kind, trials, number)


def benchmark_headline(step: Step, iteration: str) -> Made:
    """Evaluate the policy that stands after an iteration on the kind of goals that published scores are of.

    That is the iteration's candidate if it was promoted, else the policy that it began with. As many test
    goals are played as ``evaluation.whole_goals`` says.
    """
    promotion = step.require("promotion", iteration)
    stands = step.warehouse.written("promotions", promotion)[0]["promoted"]
    row = policy_of(step.warehouse, iteration)
    if stands:
        row = replace(candidate_row(step.warehouse, iteration), **played_columns(step))
    number = step.settings.evaluation.whole_goals
    headline = environment_of(step, row).headline
    found = play_and_score(step, row, "test", headline, 1, number, inputs=(promotion,))
    one = found.score
    return Made(
        found.generation,
        version=step.warehouse.content_of(found.generation),
        rows=1,
        facts={
            "policy digest": one.policy,
            "goals": one.n,
            f"mean reward ({found.goals})": round(one.reward, 3),
            f"success rate ({found.goals})": round(one.success, 3),
            "95 % interval": f"{one.low:.3f} to {one.high:.3f}",
            "agent turns a conversation": round(one.turns, 2),
            **usage_facts(one.usage),
        },
        tables=breakdowns(one),
    )


def play_and_score(
    step: Step,
    row: PolicyRow,
    selection: str,
    kind: str | None,
    trials: int,
    number: int | None,
    inputs: tuple[Generation, ...] = (),
) -> Benchmark:
    """Play a policy on a selection of goals and store the score; see ``benchmark``."""
    environment = environment_of(step, row)
    goals = selected_goals(step, row, environment, selection, kind, number)
    played = goals[0].kind
    called = environment.kinds[played]
    episodes = played_episodes(step, row, environment, goals, f"on {called}", trials)
    found = score(episodes, {goal.goal_id: goal for goal in goals}, environment.fault)
    record = score_record(found, episodes)
    del record["failures"]
    about: dict[str, Any] = {
        "iteration": row.iteration,
        "corpus": row.corpus,
        "selection": selection,
        "goal_kind": played,
        "trials": trials,
    }
    members = [{"episode_id": one.episode_id} for one in episodes]
    tables = {"benchmarks": [about | record], "benchmark_episodes": members}
    scope = content_id("benchmark", row.policy_digest, episodes[0].settings_digest, about, len(goals))
    generation = step.warehouse.publish("benchmark", scope, step.run_id, tables, inputs)
    ceiling = ceiling_on(environment, goals, step.settings)
    return Benchmark(generation, row.iteration, row.corpus, selection, played, called, found, ceiling)


def selected_goals(
    step: Step, row: PolicyRow, environment: Environment[Any], selection: str, kind: str | None, number: int | None
) -> list[Task]:
    """Return the goals to play; a number of them is the first in the order of all evaluations.

    Raises:
        UserError: the environment has no such goals.
    """
    if kind is not None and kind not in environment.kinds:
        raise UserError(
            f"{step.settings.environment.name} has no {kind!r} goals: use --goals {' or '.join(environment.kinds)}."
        )
    if selection in ROLES:
        played = kind or environment.played
        goals = stored_tasks(step.warehouse, row.goals_scope, of=environment.Task, kind=played, role=selection)
    else:
        # Which of the source's records are of the selection, they say themselves.
        whole = stored_environment(step.warehouse, step.settings.environment, row.corpus_scope, sources=True)
        every = stored_tasks(step.warehouse, row.goals_scope, of=environment.Task, usable=False)
        goals = list(whole.selection(selection, every))
        if kind is not None and any(goal.kind != kind for goal in goals):
            raise UserError(f"{selection} is not of {environment.kinds[kind]}: leave --goals out.")
    if not goals:
        raise UserError(f"{row.corpus} gives no such goal of {selection}: choose another --role or --goals.")
    return drawn(goals, "evaluation")[:number]


def chosen_policy(step: Step, policy: str) -> PolicyRow:
    """Find a policy by what a person calls it, to be played on the goals of the settings.

    Raises:
        UserError: there is none, or several, or the settings play with another one at an endpoint.
    """
    endpoint = step.settings.policy.endpoint
    if endpoint is not None and policy not in ("base", "latest"):
        raise UserError(
            f"The settings play with the model at {endpoint}, not with policy {policy!r}: "
            "leave --policy out, or give a --profile without an endpoint."
        )
    if policy == "base" or endpoint is not None:
        return base_row(step)
    found = made_policy(step.warehouse, policy)
    # On the goals of the settings, instead of those that it was trained on.
    return replace(found, **played_columns(step)) if found is not None else base_row(step)


def made_policy(warehouse: Warehouse, policy: str) -> PolicyRow | None:
    """Find a policy that an iteration made, by what a person calls it.

    Args:
        policy: ``latest`` promotion, an iteration, or the first digits of a policy's digest.

    Returns:
        The policy on the goals of its iteration; None for ``latest`` where nothing has been promoted.

    Raises:
        UserError: there is none, or several.
    """
    if policy == "latest":
        newest = newest_promotion(warehouse)
        return candidate_row(warehouse, newest["iteration"]) if newest is not None else None
    if (key := known_key(warehouse, policy)) is not None:
        return candidate_row(warehouse, key)
    # Lines may share a base, and then its digest stands in each of their baselines: it is one policy. What
    # a refused attempt trained is superseded by the next attempt, and can still be asked for.
    found = warehouse.rows(
        "SELECT policy_digest, min(iteration) AS iteration FROM ("
        "SELECT iteration, policy_digest FROM trainings UNION ALL "
        "SELECT iteration, policy_digest FROM current_policies WHERE predecessor IS NULL) "
        "WHERE starts_with(policy_digest, ?) GROUP BY policy_digest",
        [policy],
    )
    if len(found) != 1:
        none = f"No iteration is called {policy!r}, and no policy begins so"
        several = f"{len(found)} policies begin with {policy!r}"
        raise UserError(f"{several if found else none}: take one that josh scores --json prints.")
    return candidate_row(warehouse, found[0]["iteration"], found[0]["policy_digest"])


def candidate_row(warehouse: Warehouse, iteration: str, digest: str | None = None) -> PolicyRow:
    """Return what an iteration made: its candidate, or the base of a baseline.

    Args:
        digest: of the candidate, where it may be that of an earlier attempt; None for the current one.
    """
    row = policy_of(warehouse, iteration)
    if row.is_baseline:
        return row
    trained = warehouse.rows(
        f"SELECT * FROM {'current_trainings' if digest is None else 'trainings'} "
        "WHERE iteration = ? AND policy_digest = coalesce(?, policy_digest) ORDER BY generation DESC",
        [iteration, digest],
    )
    if not trained:
        raise UserError(f"Iteration {iteration} has trained nothing yet: finish it with josh iterate.")
    return with_adapter(row, trained[0])


def base_row(step: Step) -> PolicyRow:
    """Return the base of the settings as a policy that no iteration made."""
    scope = base_scope(step.settings)
    source = step.require("cold_start", scope)
    base = step.warehouse.written("base_models", source)[0]
    return PolicyRow(
        iteration="", generation=0, kind="base", attempt=1, line="", predecessor=None, base_scope=source.scope,
        policy_digest=base["base_digest"], adapter_digest=None, adapter_path=None,
        **{name: base[name] for name in ("base_digest", "base_path", "model")}, **played_columns(step),
    )  # fmt: skip


STAGE = Stage(
    name="benchmark",
    asset=f"{DEFAULT}_benchmark",
    about="The policy that stands after an iteration on the kind of test goals that published scores are of, "
    "also where the loop plays others. Not part of an iteration; `josh iterate` ends with it where "
    "evaluation.whole_goals asks for it.",
    tables={"benchmarks": ("policy_digest", "selection", "goal_kind"), "benchmark_episodes": ("episode_id",)},
    inputs=("promotion",),
    make=benchmark_headline,
    members=Members("benchmark_episodes", "episode_id", ("episodes",)),
    in_loop=False,
    scope="scope",  # of what was played, though it is run for an iteration
    origins={"benchmarks.policy_digest": ["promotions.policy_digest", "policies.policy_digest"]},
    kinds=frozenset({"duckdb", "vllm"}),
)
