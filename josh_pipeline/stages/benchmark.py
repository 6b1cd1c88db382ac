"""One policy on goals of one's own choice, apart from the loop: what ``josh evaluate`` does."""

from dataclasses import dataclass, replace
from typing import Literal

import polars as pl

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.ids import content_id
from josh_pipeline.environments.toolwoz.ceiling import Ceiling
from josh_pipeline.environments.toolwoz.goal import Goal
from josh_pipeline.environments.toolwoz.roles import Role, paper_test_goals
from josh_pipeline.evaluation.summary import Score, score
from josh_pipeline.stages.ceiling import ceiling_on
from josh_pipeline.stages.corpus import stored_corpus
from josh_pipeline.stages.episodes import Player, played
from josh_pipeline.stages.evaluation import score_record
from josh_pipeline.stages.goals import GoalKind, stored_goals
from josh_pipeline.stages.policy import PolicyRow, policy_of
from josh_pipeline.stages.scopes import base_scope, corpus_scope, goals_scope
from josh_pipeline.stages.selection import drawn
from josh_pipeline.stages.step import ITERATION_DIGITS, Step, iteration_key
from josh_pipeline.store.warehouse import Generation, Warehouse

Selection = Role | Literal["test-450"]


@dataclass(frozen=True)
class Benchmark:
    """A score, and what it is the score of.

    Attributes:
        iteration: the iteration that made the policy; ``''`` for one that no iteration made.
        corpus: name of the corpus.
        selection: a role, or ``test-450``.
        ceiling: what a perfect agent reaches on the same goals; None without an agenda user.
    """

    generation: Generation
    iteration: str
    corpus: str
    selection: Selection
    kind: GoalKind
    score: Score
    ceiling: Ceiling | None


def benchmark(
    step: Step, policy: str, selection: Selection, kind: GoalKind, trials: int, number: int | None
) -> Benchmark:
    """Evaluate a policy and store the score.

    Args:
        policy: ``latest``, ``base``, an iteration, or the first digits of a policy's digest.
        number: goals at most; None for all of the selection.
        trials: conversations a goal.

    Raises:
        UserError: there is no such policy or selection, or too many conversations failed.
    """
    return measured(step, chosen_policy(step, policy), selection, kind, trials, number)


def benchmark_whole(step: Step, iteration: str) -> Benchmark:
    """Evaluate the policy that stands after an iteration on whole test goals, whatever the loop plays.

    That is the iteration's candidate if it was promoted, else the policy that it began with. As many
    goals are played as ``evaluation.whole_goals`` says.
    """
    promotion = step.require("promotion", iteration, "promotion")
    found = step.warehouse.rows("SELECT promoted FROM current_promotions WHERE iteration = ?", [iteration])
    row = candidate_row(step, iteration) if found[0]["promoted"] else policy_of(step.warehouse, iteration)
    number = step.settings.evaluation.whole_goals
    return measured(step, row, "test", "whole", 1, number, inputs=(promotion,))


def measured(
    step: Step,
    row: PolicyRow,
    selection: Selection,
    kind: GoalKind,
    trials: int,
    number: int | None,
    inputs: tuple[Generation, ...] = (),
) -> Benchmark:
    """Play a policy on a selection of goals and store the score; see ``benchmark``."""
    goals = selected_goals(step, row, selection, kind, number)
    player = Player(row.policy_digest, row.adapter_path, f"on {'parts' if kind == 'part' else 'whole goals'}")
    episodes = played(step, row, player, goals, trials)
    found = score(episodes, {goal.goal_id: goal for goal in goals})
    record = score_record(found, episodes)
    del record["failures"]
    about = {
        "iteration": row.iteration,
        "corpus": row.corpus,
        "selection": selection,
        "goal_kind": kind,
        "trials": trials,
    }
    tables = {
        "benchmarks": pl.DataFrame([about | record]),
        "benchmark_episodes": pl.DataFrame({"episode_id": [e.episode_id for e in episodes]}),
    }
    scope = content_id("benchmark", row.policy_digest, episodes[0].settings_digest, about, len(goals))
    generation = step.warehouse.publish("benchmark", scope, step.run_id, tables, inputs)
    ceiling = ceiling_on(step.warehouse, row.corpus_scope, goals, step.settings)
    return Benchmark(generation, row.iteration, row.corpus, selection, kind, found, ceiling)


def selected_goals(
    step: Step, row: PolicyRow, selection: Selection, kind: GoalKind, number: int | None
) -> list[Goal]:
    """Return the goals to play; a number of them is the first in the order of all evaluations.

    Raises:
        UserError: the corpus has no such goals.
    """
    if selection == "test-450":
        if kind != "whole":
            raise UserError("test-450 are whole goals: leave --goals out, or give --goals whole.")
        corpus = stored_corpus(step.warehouse, row.corpus_scope, dialogues=False)
        goals = paper_test_goals(
            corpus, stored_goals(step.warehouse, row.goals_scope, kind="whole", usable=False)
        )
        goals = [goal for goal in goals if goal.excluded is None]
    else:
        goals = stored_goals(step.warehouse, row.goals_scope, kind=kind, role=selection)
    if not goals:
        raise UserError(
            f"{row.corpus} gives no {kind} goal of {selection}: choose another --role or --goals."
        )
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
    if policy == "latest":
        found = step.warehouse.rows(
            "SELECT iteration FROM current_promotions WHERE promoted ORDER BY iteration DESC LIMIT 1"
        )
        return candidate_row(step, found[0]["iteration"]) if found else base_row(step)
    if policy.isdigit() and len(policy) <= ITERATION_DIGITS:
        return candidate_row(step, iteration_key(int(policy)))
    # Lines may share a base, and then its digest stands in each of their baselines: it is one policy. What
    # a refused attempt trained is superseded by the next attempt, and can still be asked for.
    found = step.warehouse.rows(
        "SELECT policy_digest, min(iteration) AS iteration FROM ("
        "SELECT iteration, policy_digest FROM trainings UNION ALL "
        "SELECT iteration, policy_digest FROM current_policies WHERE predecessor IS NULL) "
        "WHERE starts_with(policy_digest, ?) GROUP BY policy_digest",
        [policy],
    )
    if len(found) != 1:
        number = "No policy of this home begins" if not found else f"{len(found)} policies begin"
        raise UserError(f"{number} with {policy!r}: take one that josh scores --json prints.")
    return candidate_row(step, found[0]["iteration"], found[0]["policy_digest"])


def candidate_row(step: Step, iteration: str, digest: str | None = None) -> PolicyRow:
    """Return what an iteration made: its candidate, or the base of a baseline.

    Args:
        digest: of the candidate, where it may be that of an earlier attempt; None for the current one.
    """
    row = with_goals(step, policy_of(step.warehouse, iteration))
    if row.is_baseline:
        return row
    trained = step.warehouse.rows(
        "SELECT * FROM trainings WHERE iteration = $iteration AND policy_digest = $digest "
        "ORDER BY generation DESC"
        if digest is not None
        else "SELECT * FROM current_trainings WHERE iteration = $iteration",
        {"iteration": iteration} | ({"digest": digest} if digest is not None else {}),
    )
    if not trained:
        raise UserError(f"Iteration {iteration} has trained nothing yet: finish it with josh iterate.")
    names = ("policy_digest", "adapter_digest", "adapter_path")
    return replace(row, **{name: trained[0][name] for name in names})


def base_row(step: Step) -> PolicyRow:
    """Return the base of the settings as a policy that no iteration made."""
    scope = base_scope(step.settings)
    source = step.require("cold_start", scope, "cold_start")
    base = step.warehouse.rows("SELECT * FROM current_base_models WHERE scope = ?", [scope])[0]
    row = PolicyRow(
        iteration="",
        generation=0,
        policy_digest=base["base_digest"],
        kind="base",
        attempt=1,
        line="",
        predecessor=None,
        corpus="",
        corpus_digest="",
        corpus_scope="",
        goals_scope="",
        base_scope=source.scope,
        base_digest=base["base_digest"],
        base_path=base["base_path"],
        adapter_digest=None,
        adapter_path=None,
        model=base["model"],
    )
    return with_goals(step, row)


def with_goals(step: Step, row: PolicyRow) -> PolicyRow:
    """Let a policy play the goals of the settings instead of those that it was trained on."""
    corpus = corpus_of(step.warehouse, corpus_scope(step.settings.corpus))
    return replace(
        row,
        corpus=corpus["name"],
        corpus_digest=corpus["corpus_digest"],
        corpus_scope=corpus["scope"],
        goals_scope=goals_scope(step.settings),
    )


def corpus_of(warehouse: Warehouse, scope: str) -> dict[str, str]:
    """Return the row of a corpus.

    Raises:
        UserError: it is not in the store.
    """
    found = warehouse.rows("SELECT * FROM current_corpora WHERE scope = ?", [scope])
    if not found:
        raise UserError("Materialize multiwoz_dialogues first, with these settings: it is not in the store.")
    return found[0]
