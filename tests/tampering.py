"""What a forger, a bug or a bad disk may do to a home, and what the audit has to say of it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from josh_pipeline.audit.context import Audit
from josh_pipeline.audit.whole import audit_home
from josh_pipeline.core.content import content_id
from josh_pipeline.core.progress import SilentProgress
from josh_pipeline.search.search import rollout_id
from josh_pipeline.store.digests import generation_digest, generation_rows, row_digest
from josh_pipeline.store.home import Home
from josh_pipeline.store.lineage import history

ADDED = "0000111122223333"
"""The id of what nobody wrote."""
SOLVED = "SELECT rollout_id FROM current_trees WHERE iteration = '001' AND reward = 1 ORDER BY 1"
LISTED = "UPDATE rollouts r SET tree_digest = t.digest FROM trees t WHERE t.rollout_id = r.rollout_id"


def audited(home: Home, iteration: str | None = None) -> Audit:
    """Audit a home, or what an iteration descends from."""
    return audit_home(home, iteration, SilentProgress())[0]


def said(audit: Audit) -> str:
    """What an audit found broken."""
    return "\n".join(f"{finding.where}: {finding.message}" for finding in audit.of("broken"))


def alter(home: Home, sql: str) -> None:
    """Change the store behind the back of what keeps it."""
    with home.warehouse().connection() as connection:
        connection.execute(sql)


def with_right_digest(home: Home, table: str, where: str) -> None:
    """Let rows have the digest of what they hold now, as a forger would."""
    alter(home, f"UPDATE {table} SET digest = {row_digest(table)} WHERE {where}")


def one(home: Home, sql: str) -> str:
    """The first value of a query."""
    return str(next(iter(home.warehouse().rows(f"{sql} LIMIT 1")[0].values())))


def settled(home: Home) -> None:
    """Let content and digest of every generation follow from the rows as they are now, as a forger of all would."""
    store = home.warehouse()
    for written in history(store).values():
        one, inputs = written.generation, {each.key: each.number for each in written.inputs}
        with store.connection() as connection:
            counts, content = generation_rows(connection, store.layout.stages[one.stage], one.scope, one.number)
            digest = generation_digest(connection, one.stage, one.scope, one.number, written.run_id, inputs, content)
            connection.execute(
                "UPDATE generations SET rows = ?, content = ?, digest = ? "
                "WHERE stage = ? AND scope = ? AND generation = ?",
                [json.dumps(counts), content, digest, one.stage, one.scope, one.number],
            )


@dataclass(frozen=True)
class Tampering:
    """Statements, and what is said of them; ``<name>`` in either is what ``of`` finds.

    Attributes:
        forged: table to its rows whose digest is made right again.
        then: a statement after that, e.g. for what lists the rows; its table's digests are made right too.
        whole: content and digests of all generations follow as well.
    """

    says: str
    sql: str
    of: str | None = None
    forged: Mapping[str, str] = field(default_factory=dict)
    lists: bool = False
    whole: bool = False

    def __call__(self, home: Home) -> str:
        """Tamper with a home; returns what has to be said of it."""
        name = one(home, self.of) if self.of else ""
        alter(home, self.sql.replace("<name>", name))
        for table, where in self.forged.items():
            with_right_digest(home, table, where.replace("<name>", name))
        if self.lists:
            alter(home, LISTED)
            with_right_digest(home, "rollouts", "true")
        if self.whole:
            settled(home)
        return self.says.replace("<name>", name)


def added(table: str, key: str, says: str, forged: bool = False, **more: str) -> Tampering:
    """Write a row a second time under an id of its own."""
    values = {key: f"'{ADDED}'"} | more
    new = ", ".join(f"{value} AS {column}" for column, value in values.items())
    where = {table: f"{key} = '{ADDED}'"} if forged else {}
    return Tampering(says, f"INSERT INTO {table} SELECT * REPLACE ({new}) FROM {table} LIMIT 1", forged=where)


def rewritten(table: str, change: str, says: str, where: str = "iteration = '001'", of: str | None = None) -> Tampering:
    """Alter rows, and let every digest above them follow."""
    return Tampering(says, f"UPDATE {table} SET {change} WHERE {where}", of, forged={table: where}, whole=True)


def adapter_byte(home: Home) -> str:
    name = one(home, "SELECT adapter_digest FROM trainings ORDER BY 1")
    weights = home.adapters / name / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))
    return name


def manifest(home: Home) -> str:
    name = one(home, "SELECT adapter_digest FROM trainings ORDER BY 1")
    path = home.adapters / f"{name}.json"
    path.write_text(path.read_text().replace('"attempt": 1', '"attempt": 2'))
    return name


def forged_node(home: Home) -> str:
    """Add a node that is named rightly and has its digest."""
    tree = one(home, "SELECT rollout_id FROM trees ORDER BY 1")
    name = content_id(tree, [7])
    alter(
        home,
        f"INSERT INTO nodes SELECT * REPLACE ('{name}' AS node_id, '[7]' AS path) FROM nodes "
        f"WHERE rollout_id = '{tree}' AND path::VARCHAR = '[0]'",
    )
    with_right_digest(home, "nodes", f"node_id = '{name}'")
    return f"The nodes of tree {tree} are not those"


def forged_retry(home: Home) -> str:
    """Put another tree beside one, named rightly as its retry, and let the list name it instead."""
    row = home.warehouse().rows("SELECT * FROM current_trees WHERE iteration = '001' ORDER BY 1, 2, 3")[0]
    old = row["rollout_id"]
    new = rollout_id(row["policy_digest"], row["goal_id"], row["seed"], row["settings_digest"], 1)
    alter(
        home,
        f"INSERT INTO trees SELECT * REPLACE ('{new}' AS rollout_id, 1 AS retry) FROM trees "
        f"WHERE rollout_id = '{old}'; UPDATE rollouts SET rollout_id = '{new}' WHERE rollout_id = '{old}'",
    )
    with_right_digest(home, "trees", f"rollout_id = '{new}'")
    with_right_digest(home, "rollouts", f"rollout_id = '{new}'")
    return "rollouts/001/1: Its rows do not add up to its content"


CALLED = "SELECT node_id FROM nodes WHERE calls::VARCHAR <> '[]' ORDER BY node_id"
EPISODE = "SELECT episode_id FROM episodes ORDER BY 1"
TREE = "SELECT rollout_id FROM trees ORDER BY 1"
OF_TREE = {"trees": "rollout_id = '<name>'"}

TAMPERINGS: Mapping[str, Callable[[Home], str]] = {
    # A value is altered.
    "tree_reward": Tampering(
        "<name>",
        "UPDATE trees SET reward = 0.25 WHERE rollout_id = '<name>'",
        "SELECT rollout_id FROM trees WHERE reward = 1 ORDER BY rollout_id",
    ),
    "message": Tampering(
        "<name>",
        """UPDATE nodes SET messages = replace(messages::VARCHAR, '"content":"', '"content":"Well, ') """
        "WHERE node_id = '<name>'",
        CALLED,
    ),
    "call_result": Tampering(
        "<name>",
        "UPDATE nodes SET calls = replace(calls::VARCHAR, '\"matches\":', '\"matches\":9') WHERE node_id = '<name>'",
        CALLED,
    ),
    "adapter_byte": adapter_byte,
    "manifest": manifest,
    "source": Tampering(
        "Row <name> of table sources",
        "UPDATE sources SET content = '{}' WHERE source_id = '<name>'",
        "SELECT source_id FROM sources ORDER BY 1",
    ),
    "altered_entity": Tampering(
        "hotel/3", "UPDATE entities SET content = '{}' WHERE collection = 'hotel' AND position = 3"
    ),
    "label": Tampering(
        "<name>",
        "UPDATE labels SET golden = true WHERE node_id = '<name>'",
        "SELECT node_id FROM labels WHERE NOT golden AND NOT successful ORDER BY 1",
    ),
    "training_row": Tampering(
        "<name>",
        "UPDATE preference_rows SET sides = replace(sides::VARCHAR, 'search_', 'sought_') WHERE row_id = '<name>'",
        "SELECT row_id FROM preference_rows ORDER BY 1",
    ),
    "episode_reward": Tampering(
        "<name>",
        "UPDATE episodes SET reward = 0, success = false WHERE episode_id = '<name>'",
        "SELECT episode_id FROM episodes WHERE reward = 1 ORDER BY 1",
    ),
    "score": Tampering(
        "evaluation/001/1 before/test",
        "UPDATE evaluations SET mean_reward = 0.999 WHERE iteration = '001' AND side = 'before'",
    ),
    "run_settings": Tampering("run-1", "UPDATE runs SET seed = 99 WHERE run_id = 'run-1'"),
    # A row is gone.
    "deleted_goal": Tampering(
        "<name>", "DELETE FROM goals WHERE goal_id = '<name>'", "SELECT goal_id FROM trees ORDER BY 1"
    ),
    "entity": Tampering(
        "It lacks 1 row of table entities", "DELETE FROM entities WHERE collection = 'hotel' AND position = 3"
    ),
    "deleted_node": Tampering(
        "<name>",
        "DELETE FROM nodes WHERE node_id = '<name>'",
        "SELECT node_id FROM nodes WHERE round = 1 ORDER BY path DESC, node_id",
    ),
    "deleted_tree": Tampering(
        "Tree <name> is missing",
        "DELETE FROM trees WHERE rollout_id = '<name>'; DELETE FROM nodes WHERE rollout_id = '<name>'",
        TREE,
    ),
    "deleted_conversation": Tampering(
        "Conversation <name> is missing", "DELETE FROM episodes WHERE episode_id = '<name>'", EPISODE
    ),
    "row_node": Tampering(
        "<name>", "DELETE FROM row_nodes WHERE row_id = '<name>'", "SELECT row_id FROM row_nodes ORDER BY 1"
    ),
    "generation": Tampering("rollouts/002/1", "DELETE FROM generations WHERE stage = 'rollouts' AND scope = '002'"),
    "left_out_generation": Tampering(
        "policy/001/2: It is number 2, and the store lists only 1 generation",
        "DELETE FROM generations WHERE stage = 'policy' AND scope = '001' AND generation = 1; "
        "DELETE FROM policies WHERE iteration = '001' AND generation = 1",
    ),
    # A row is there that nobody wrote.
    "added_row": added("preference_rows", "row_id", ADDED),
    "added_tree": added("trees", "rollout_id", ADDED),
    "added_nodes": added("nodes", "rollout_id", f"There are nodes of tree {ADDED}, and no such tree"),
    "added_conversation": added("episodes", "episode_id", ADDED, failure="'endpoint'"),
    "added_goal": added("goals", "goal_id", f"Goal {ADDED} does not follow"),
    "added_label": added("labels", "node_id", f"The label of node {ADDED} does not follow"),
    # Another generation is current.
    "old_made_current": Tampering(
        "policy/001/1: It is current, and generation 2 is newer",
        "UPDATE generations SET current = generation = 1 WHERE stage = 'policy' AND scope = '001'",
    ),
    "none_current": Tampering(
        "labels/002/1: It is the newest and not current",
        "UPDATE generations SET current = false WHERE stage = 'labels' AND scope = '002'",
    ),
    # The row's own digest is right again: what lists it, or what it is made from, tells.
    "forged_reward": Tampering(
        "Tree <name> is not what rollouts/",
        "UPDATE trees SET reward = 0.25, seconds = 0 WHERE rollout_id = '<name>'",
        SOLVED,
        forged=OF_TREE,
    ),
    "forged_list": Tampering(
        "rollouts/001/1: Its rows do not add up to its content",
        "UPDATE trees SET reward = 0.25, seconds = 0 WHERE rollout_id = '<name>'",
        SOLVED,
        forged=OF_TREE,
        lists=True,
    ),
    "forged_cost": Tampering(
        "adapter/001/1: Its rows do not add up to its content",
        "UPDATE trainings SET tokens = 1 WHERE iteration = '001'",
        forged={"trainings": "iteration = '001'"},
    ),
    "forged_node": forged_node,
    "forged_row": added("preference_rows", "row_id", f"Training row {ADDED} does not come from the trees", forged=True),
    "forged_tree": added(
        "trees", "rollout_id", f"Tree {ADDED} has the policy, goal, seed, settings and retry of", forged=True
    ),
    "forged_retry": forged_retry,
    "forged_generation": Tampering(
        "adapter/001/1: Its digest does not follow",
        "UPDATE trainings SET tokens = 1 WHERE iteration = '001'; "
        f"UPDATE generations SET content = '{ADDED}' WHERE stage = 'adapter'",
        forged={"trainings": "iteration = '001'"},
    ),
    # Every digest follows: only what is computed anew tells.
    "forged_solvability": rewritten(
        "solvability",
        "solvable = false, reward = 0",
        "What the oracle got of goal <name> has another solvable",
        "goal_id = '<name>'",
        "SELECT goal_id FROM solvability WHERE solvable ORDER BY 1",
    ),
    "forged_no_solvability": Tampering(
        "What the oracle got of goal <name> is missing",
        "DELETE FROM solvability WHERE goal_id = '<name>'",
        "SELECT goal_id FROM solvability ORDER BY 1",
        whole=True,
    ),
    "forged_interval": rewritten(
        "evaluations", "success_low = 0.999", "evaluations evaluation/001/1 after/test: Its success_low is 0.999"
    ),
    "forged_comparison": rewritten(
        "comparisons", "low = 0.5, high = 0.9", "comparisons evaluation/001/1 val/reward: Its low is 0.5"
    ),
    "forged_limit": rewritten("drifts", "max_drift = 1000", "Its max_drift is 1000.0, and that of its settings is"),
    "forged_refusal": rewritten(
        "promotions",
        "promoted = false",
        "Its evaluation says that it is promoted, and it was refused",
        "iteration = '002'",
    ),
    "forged_path": rewritten(
        "policies",
        "adapter_path = 'adapters/other'",
        "Its adapter_path is adapters/other, and that of its promotion is",
        "iteration = '002'",
    ),
    "forged_whole_tree": Tampering(
        "Tree <name>: reward 0.25 is stored, 1.0 is right",
        "UPDATE trees SET reward = 0.25 WHERE rollout_id = '<name>'",
        SOLVED,
        forged=OF_TREE,
        lists=True,
        whole=True,
    ),
}
"""Name to what tampers with a home and returns what the audit has to say."""
