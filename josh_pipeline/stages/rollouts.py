"""Stage ``rollouts``: the JOSH search on training goals, one tree a goal; and trees out of the store."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from josh_pipeline.core.content import derived_seed
from josh_pipeline.core.environment import Environment, Task
from josh_pipeline.core.errors import UserError
from josh_pipeline.evaluation.playing import open_table, rollout_digest, user_name
from josh_pipeline.search.codec import USAGE, node_records, tree_record, trees_from_records, usage_from_record
from josh_pipeline.search.rollouts import RolloutSummary, rollout_seed
from josh_pipeline.search.selection import rollout_goals
from josh_pipeline.search.shape import Shape, shape_of
from josh_pipeline.search.spending import Budget, Ledger
from josh_pipeline.search.tree import Tree
from josh_pipeline.stages.failures import missed_before
from josh_pipeline.stages.goals import played_before, solvable_goals
from josh_pipeline.stages.playing import Plays, environment_of, newest_tries, usage_facts, weights
from josh_pipeline.stages.policy import PolicyRow, iterating_policy, round_of
from josh_pipeline.stages.stage import Check, Made, Stage, Step, Verdict, facts_of
from josh_pipeline.store.layout import Members
from josh_pipeline.store.warehouse import Generation, Warehouse


def roll_out(step: Step, iteration: str) -> Made:
    """Search the goals of an iteration's attempt; trees that the store has are not searched again.

    A tree that failed, or that the budget cut short, is owed again: as a new one, the old one stays.

    Raises:
        UserError: the policy cannot be opened, or too many conversations failed; finished trees are kept.
    """
    policy = iterating_policy(step, iteration)
    settings = step.settings
    environment = environment_of(step, policy)
    goals = goals_of_attempt(step, policy, environment)
    seed = derived_seed("iteration", settings.seed, iteration)
    digest = rollout_digest(settings, environment)
    tree_seed = rollout_seed(seed, policy.attempt)
    plays = Plays(policy.policy_digest, digest, [(goal.goal_id, tree_seed) for goal in goals])
    before = newest_tries(step.warehouse, "trees", plays)
    owed = {goal: one.retry for (goal, _), one in before.items() if not one.finished}
    run = None
    if owed:
        ledger = Ledger(_budget(step, plays), settings.policy.prices, settings.user.prices)
        run = asyncio.run(_search(step, policy, environment, goals, seed, owed, ledger))
    made = newest_tries(step.warehouse, "trees", plays).values()
    names = [one.name for one in made if one.name is not None]
    members = [{"position": position, "rollout_id": name} for position, name in enumerate(names)]
    generation = step.warehouse.publish("rollouts", iteration, step.run_id, {"rollouts": members}, [policy.source])
    shape = shape_of(trees_of(step.warehouse, generation), {goal.goal_id: goal for goal in goals})
    return _made(step, generation, shape, len(goals) - len(owed), run)


def goals_of_attempt(step: Step, policy: PolicyRow, environment: Environment[Any]) -> list[Task]:
    """Return the training goals that an attempt searches."""
    demonstrated = step.warehouse.query(
        "SELECT source_id FROM current_demonstrations WHERE scope = ?", [policy.base_scope]
    )["source_id"]
    kind = environment.searched(round_of(step.warehouse, policy))
    return rollout_goals(
        solvable_goals(step.warehouse, policy.goals_scope, environment, kind),
        step.settings.search.goals,
        set(demonstrated),
        step.settings.seed,
        played_before(step.warehouse, policy),
        missed_before(step.warehouse, environment, policy) if step.settings.search.draw == "failures" else {},
    )


async def _search(
    step: Step,
    policy: PolicyRow,
    environment: Environment[Any],
    goals: Sequence[Task],
    seed: int,
    owed: Mapping[str, int],
    ledger: Ledger,
) -> RolloutSummary:
    marks = {"run_id": step.run_id, "simulated_user": user_name(step.settings, environment)}

    def write(trees: list[Tree]) -> None:
        records = [tree_record(tree) | marks for tree in trees]
        nodes = [record for tree in trees for record in node_records(tree)]
        step.warehouse.append({"trees": records, "nodes": nodes}, key="rollout_id")

    async with open_table(step.settings, environment, weights(step.home, policy), policy.policy_digest) as table:
        summary = await table.search(goals, seed, policy.attempt, write, step.progress, ledger, owed)
        step.noted.update(table.unmet)
        return summary


def _budget(step: Step, plays: Plays) -> Budget:
    """The budget of an attempt, of which all its trees have used a part: those that failed or were cut, too."""
    spent = step.warehouse.rows(
        "SELECT coalesce(sum(prompt_tokens + completion_tokens), 0) "
        "+ coalesce(sum(user_prompt_tokens + user_completion_tokens), 0) AS tokens, "
        f"coalesce(sum(cost), 0) AS cost FROM trees WHERE {plays.where}",
        plays.parameters,
    )[0]
    return Budget(**step.settings.budget.model_dump(), **spent)


def _made(step: Step, generation: Generation, shape: Shape, stored: int, run: RolloutSummary | None) -> Made:
    sums = ", ".join(f"coalesce(sum({name}), 0) AS {name}" for name in USAGE)
    found = step.warehouse.rows(
        "SELECT count(*) AS trees, count(*) FILTER (reward >= 1) AS solved, "
        "count(*) FILTER (reward > 0) AS rewarded, coalesce(avg(reward), 0) AS mean_reward, "
        "count(failure) FILTER (failure <> 'budget') AS failed, count(*) FILTER (failure = 'budget') AS cut, "
        f"coalesce(string_agg(DISTINCT simulated_user, ', '), 'none') AS simulated_user, {sums}, "
        "(SELECT count(*) FROM current_nodes WHERE iteration = $iteration) AS nodes "
        "FROM current_trees WHERE iteration = $iteration",
        {"iteration": generation.scope},
    )[0]
    facts = facts_of(found, "nodes", "simulated_user", "failed_requests") | {
        "number of trees": found["trees"],
        "trees made by earlier runs": stored,
        "trees with full reward": found["solved"],
        "trees with any reward": found["rewarded"],
        "mean reward": round(found["mean_reward"], 3),
        "siblings that differ": round(shape.distinct, 3),
        "failed trees": found["failed"],
        "trees cut short by the budget": found["cut"],
        "requests of the user's model": found["user_requests"],
        "failed requests of the user's model": found["user_failed_requests"],
        **usage_facts(usage_from_record(found)),
    }
    if run is not None:
        failed = {str(kind): number for kind, number in run.failed_branches.items()}
        facts |= {"seconds": round(run.usage.seconds), "failed branches": failed}
    return Made(
        generation,
        version=step.warehouse.content_of(generation),
        rows=found["trees"],
        facts=facts,
        tables={
            "why leaves ended, of trees without full reward": [
                {"why": end.replace("_", " "), "leaves": n} for end, n in shape.ends.most_common()
            ],
            "what these trees never earned": [
                {"wanted call": label, "missed": n} for label, n in shape.missed.most_common()
            ],
        },
        verdicts={"trees_rewarded": trees_rewarded(step, found)},
    )


def trees_rewarded(step: Step, counts: Mapping[str, Any]) -> Verdict:
    """Say whether some trees earned something, and not too many failed as a whole."""
    failed = counts["failed"] > step.settings.search.max_failed_share * counts["trees"]
    return Verdict(
        bool(counts["rewarded"]) and not failed,
        f"{counts['rewarded']} of {counts['trees']} trees earned a reward, {counts['failed']} failed."
        + ("" if counts["rewarded"] else " Nothing can be learnt from them."),
        {name: counts[name] for name in ("trees", "rewarded", "failed")},
    )


def stored_trees(warehouse: Warehouse, iteration: str) -> tuple[Tree, ...]:
    """Return the current trees of an iteration, in the order of their goals."""
    generation = warehouse.current("rollouts", iteration)
    return trees_of(warehouse, generation) if generation is not None else ()


def trees_of(warehouse: Warehouse, generation: Generation) -> tuple[Tree, ...]:
    """Return the trees of a generation of this stage, in the order of their goals."""
    listed = "FROM rollouts r JOIN {} t USING (rollout_id) WHERE r.iteration = ? AND r.generation = ?"
    of = [generation.scope, generation.number]
    records = warehouse.rows(f"SELECT t.* {listed.format('trees')} ORDER BY r.position", of)
    return trees_from_records(records, warehouse.rows(f"SELECT t.* {listed.format('nodes')}", of))


def stored_tree(warehouse: Warehouse, rollout: str) -> Tree:
    """Return one tree by the first digits of its id, current or not.

    Raises:
        UserError: no tree, or more than one, begins so.
    """
    records = warehouse.rows("SELECT * FROM trees WHERE starts_with(rollout_id, ?)", [rollout])
    if len(records) != 1:
        none = f"No rollout begins with {rollout!r}: take an id from the report or the table trees."
        raise UserError(f"{len(records)} rollouts begin with {rollout!r}: give more digits." if records else none)
    return trees_from_records(records, nodes_of(warehouse, [records[0]["rollout_id"]]))[0]


def nodes_of(warehouse: Warehouse, rollouts: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of ``nodes`` of some trees."""
    return warehouse.rows("SELECT * FROM nodes WHERE list_contains(?, rollout_id)", [list(rollouts)])


STAGE = Stage(
    name="rollouts",
    asset="beam_rollouts",
    about="The JOSH search: for each training goal a tree of conversations that branches at the agent's turns "
    "and collapses onto the branch that earns a reward. Holds every node, what was sampled, every call and "
    "its result, and the reward seen online. Finished trees are kept at once, so an interrupted run goes on.",
    tables={"rollouts": ("rollout_id",)},
    inputs=("policy",),
    make=roll_out,
    checks=(
        Check(
            "trees_rewarded",
            "Some trees earned a reward, and few failed as a whole: else there is nothing to learn from.",
        ),
    ),
    members=Members("rollouts", "rollout_id", ("trees", "nodes")),
    origins={"trees.policy_digest": ["policies.policy_digest"], "trees.goal_id": ["goals.goal_id"]},
    kinds=frozenset({"duckdb", "vllm"}),
)
