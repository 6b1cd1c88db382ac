"""Step ``beam_rollouts``: the JOSH search on training goals, one tree a goal."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import polars as pl

from josh_pipeline.core.ids import content_id, derived_seed
from josh_pipeline.dialogue.agents import make_agent
from josh_pipeline.dialogue.users import user_name
from josh_pipeline.environments.toolwoz.goal import Goal
from josh_pipeline.search.codec import USAGE, node_records, tree_record
from josh_pipeline.search.rollouts import RolloutSummary, rollout_seed, rollouts
from josh_pipeline.search.search import rollout_id
from josh_pipeline.search.spending import Budget, Ledger
from josh_pipeline.search.tree import Tree, Usage
from josh_pipeline.stages.goals import played_kind
from josh_pipeline.stages.playing import open_table, rollout_digest
from josh_pipeline.stages.policy import PolicyRow, iterating_policy
from josh_pipeline.stages.selection import played_before, rollout_goals
from josh_pipeline.stages.step import Step, one_at_a_time
from josh_pipeline.store.warehouse import Generation, Warehouse

TREE_SCHEMA = {"failure": pl.String, "failure_message": pl.String}
NODE_SCHEMA = TREE_SCHEMA | {"parent_id": pl.String, "ended": pl.String, "told": pl.String}


@dataclass(frozen=True)
class RolloutsSummary:
    """What an iteration's trees are.

    Attributes:
        content: hash of the trees' ids.
        trees: of the current generation, failed ones included.
        stored: how many of them an earlier run had made.
        solved: trees with full reward.
        rewarded: trees with any reward.
        mean_reward: over all trees.
        nodes: of all trees.
        failed: trees that failed as a whole.
        cut: trees that the budget cut short.
        simulated_user: who the agent talked to.
        usage: what all the trees cost; ``seconds`` is not summed.
        run: what this run itself did.
    """

    generation: Generation
    content: str
    trees: int
    stored: int
    solved: int
    rewarded: int
    mean_reward: float
    nodes: int
    failed: int
    cut: int
    simulated_user: str
    usage: Usage
    run: RolloutSummary | None


@one_at_a_time
def roll_out(step: Step, iteration: str) -> RolloutsSummary:
    """Search the goals of an iteration's attempt; trees that the store has are not searched again.

    Raises:
        UserError: the policy cannot be opened, or too many conversations failed; finished trees are kept.
    """
    policy = iterating_policy(step, iteration)
    settings = step.settings
    demonstrated = set(
        step.warehouse.query(
            "SELECT dialogue_id FROM current_demonstrations WHERE scope = ?", [policy.base_scope]
        )["dialogue_id"]
    )
    goals = rollout_goals(
        step.warehouse,
        policy.goals_scope,
        played_kind(step),
        settings.search.goals,
        demonstrated,
        settings.seed,
        played_before(step.warehouse, policy),
    )
    seed = derived_seed("iteration", settings.seed, iteration)
    tree_seed = rollout_seed(seed, policy.attempt)
    digest = rollout_digest(settings)
    ids = [rollout_id(policy.policy_digest, goal.goal_id, tree_seed, digest) for goal in goals]
    done = finished_ids(step.warehouse, ids)
    run = None
    if len(done) < len(ids):
        ledger = Ledger(_budget(step, ids), settings.policy.prices, settings.user.prices)
        run = asyncio.run(_search(step, policy, goals, seed, digest, done, ledger))
    known = set(
        step.warehouse.query("SELECT rollout_id FROM trees WHERE list_contains(?, rollout_id)", [ids])[
            "rollout_id"
        ]
    )
    members = [name for name in ids if name in known]
    frame = pl.DataFrame(
        {"position": range(len(members)), "rollout_id": members},
        schema={"position": pl.Int64, "rollout_id": pl.String},
    )
    generation = step.warehouse.publish(
        "rollouts", iteration, step.run_id, {"rollouts": frame}, [policy.source]
    )
    content = content_id("rollouts", members)
    return _summary(step.warehouse, iteration, generation, content, len(done), run)


async def _search(
    step: Step,
    policy: PolicyRow,
    goals: Sequence[Goal],
    seed: int,
    digest: str,
    done: set[str],
    ledger: Ledger,
) -> RolloutSummary:
    settings = step.settings
    marks = {"run_id": step.run_id, "simulated_user": user_name(settings.user)}

    def write(trees: list[Tree]) -> None:
        records = [tree_record(tree) | marks for tree in trees]
        nodes = [record for tree in trees for record in node_records(tree)]
        step.warehouse.append(
            {
                "trees": pl.DataFrame(records, schema_overrides=TREE_SCHEMA),
                "nodes": pl.DataFrame(nodes, schema_overrides=NODE_SCHEMA, infer_schema_length=None),
            },
            key="rollout_id",
        )

    async with open_table(
        step, policy, goals, digest=policy.policy_digest, adapter_path=policy.adapter_path, inside_search=True
    ) as table:
        return await rollouts(
            goals,
            table.world,
            table.user,
            table.policy,
            make_agent(settings.policy.agent, settings.policy.results),
            settings.search,
            settings_digest=digest,
            seed=seed,
            attempt=policy.attempt,
            done=done,
            checkpoint=write,
            progress=step.progress,
            ledger=ledger,
        )


def _budget(step: Step, ids: Collection[str]) -> Budget:
    """The iteration's budget, of which its trees have used a part, those that failed or were cut too."""
    spent = step.warehouse.rows(
        "SELECT coalesce(sum(prompt_tokens + completion_tokens), 0) "
        "+ coalesce(sum(user_prompt_tokens + user_completion_tokens), 0) AS tokens, "
        "coalesce(sum(cost), 0) AS cost FROM trees WHERE list_contains(?, rollout_id)",
        [sorted(ids)],
    )[0]
    return Budget(**step.settings.budget.model_dump(), **spent)


def finished_ids(warehouse: Warehouse, ids: Sequence[str]) -> set[str]:
    """Return which of these trees the store has; failed ones are owed again."""
    return set(
        warehouse.query(
            "SELECT rollout_id FROM trees WHERE failure IS NULL AND list_contains(?, rollout_id)", [list(ids)]
        )["rollout_id"]
    )


def _summary(
    warehouse: Warehouse,
    iteration: str,
    generation: Generation,
    content: str,
    stored: int,
    run: RolloutSummary | None,
) -> RolloutsSummary:
    found = warehouse.rows(
        "SELECT count(*) AS trees, count(*) FILTER (reward >= 1) AS solved, "
        "count(*) FILTER (reward > 0) AS rewarded, coalesce(avg(reward), 0) AS mean_reward, "
        "count(failure) FILTER (failure <> 'budget') AS failed, count(*) FILTER (failure = 'budget') AS cut, "
        "coalesce(string_agg(DISTINCT simulated_user, ', '), 'none') AS simulated_user "
        "FROM current_trees WHERE iteration = ?",
        [iteration],
    )[0]
    sums = ", ".join(f"coalesce(sum({name}), 0) AS {name}" for name in USAGE if name != "seconds")
    spent = warehouse.rows(f"SELECT {sums} FROM current_trees WHERE iteration = ?", [iteration])[0]
    nodes = warehouse.rows("SELECT count(*) AS n FROM current_nodes WHERE iteration = ?", [iteration])[0]["n"]
    return RolloutsSummary(
        generation=generation,
        content=content,
        stored=stored,
        nodes=nodes,
        usage=Usage(**spent),
        run=run,
        **found,
    )
