"""The links of one training row: what it came from, and what was made of it; and all that saw a source."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from josh_pipeline.audit.context import Audit, Context, Finding, Reading, stored_trees
from josh_pipeline.audit.rows import altered_sentence, digest_findings, id_faults, superseded_findings
from josh_pipeline.audit.searched import derives, relabelled, row_faults, tree_faults
from josh_pipeline.audit.sources import check_folder
from josh_pipeline.audit.trained import check_manifest
from josh_pipeline.core.environment import Task
from josh_pipeline.core.errors import UserError
from josh_pipeline.harvest.labels import disagreements
from josh_pipeline.harvest.rows import Row, row_from_record
from josh_pipeline.search.tree import Node, Tree
from josh_pipeline.store.digests import altered_rows, combined
from josh_pipeline.store.home import Home
from josh_pipeline.store.lineage import ancestors, history
from josh_pipeline.store.warehouse import Generation, Warehouse


@dataclass
class Link:
    """One link of a chain.

    Attributes:
        kind: what it is: row, node, tree, ...
        name: its id.
        facts: what is known of it, by name.
        findings: about it; best none.
    """

    kind: str
    name: str
    facts: dict[str, str | int | float | bool | None]
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class RowAudit:
    """A row and its chain.

    Attributes:
        record: its row of ``preference_rows``.
        row: the same, read.
        trees: that it came from; the first is the one that the row names.
        nodes: that it came from, with the part of the row that each holds.
        goal: of the first tree; None where it is missing.
        links: from the row down to the corpus, then up to what was made of it.
        audit: all findings.
    """

    record: dict[str, Any]
    row: Row
    trees: tuple[Tree, ...]
    nodes: tuple[tuple[str, Node], ...]
    goal: Task | None
    links: tuple[Link, ...]
    audit: Audit

    @property
    def harvested(self) -> Generation:
        """The generation that the row was read from."""
        return Generation("preferences", self.record["iteration"], self.record["generation"])


class Chain:
    """Follows one row and notes what it finds, link by link.

    Args:
        record: the row, of ``preference_rows``.
    """

    def __init__(self, context: Context, record: dict[str, Any]) -> None:
        self.context = context
        self.record = record
        self.written = context.known[Generation("preferences", record["iteration"], record["generation"])]
        self.links: list[Link] = []

    def audited(self) -> RowAudit:
        """Follow every link, down to the corpus and up to the promotions."""
        row = row_from_record(self.record)
        self._row(row)
        trees, nodes = self._nodes()
        goal = None
        for tree in trees:
            found = self._tree(tree, row)
            goal = goal or found
        self._sources()
        self._policy()
        self._runs(trees)
        self._adapters()
        self._generations()
        audit = Audit()
        for link in self.links:
            for finding in link.findings:
                audit.add(finding.status, finding.where, finding.message)
        return RowAudit(self.record, row, trees, nodes, goal, tuple(self.links), audit)

    def _link(
        self, kind: str, name: str, table: str | None = None, of: Generation | None = None, /, **facts: Any
    ) -> Link:
        """Add a link.

        Args:
            table: where its row stands, which is held to its digest.
            of: the generation that the row belongs to, which a rerun may have superseded.
        """
        link = Link(kind, name, facts)
        self.links.append(link)
        if of is not None:
            link.findings += superseded_findings(self.context.known, of)
        if table is not None:
            self._held(link, table, of, name)
        return link

    def _held(self, link: Link, table: str, of: Generation | None, *key: str) -> None:
        """Hold rows to their digests.

        Args:
            key: the values that name the row; fewer are the first ones, and name several.
        """
        layout = self.context.warehouse.layout
        stage, keys = layout.stage_of(table), ("rollout_id",) if table == "nodes" else layout.keys(table)
        conditions = [f'"{name}" = ?' for name in keys[: len(key)]]
        values: list[object] = list(key)
        if stage is not None and of is not None:
            conditions += [f"{stage.scope} = ?", "generation = ?"]
            values += [of.scope, of.number]
        with self.context.warehouse.connection() as connection:
            found = altered_rows(connection, layout, table, " AND ".join(conditions), values)
        link.findings += [Finding("broken", *altered_sentence(layout, table, row)) for row in found]

    def _note(self, link: Link, messages: Sequence[str]) -> None:
        link.findings += [Finding("broken", f"{link.kind} {link.name}", message) for message in messages]

    def _row(self, row: Row) -> None:
        link = self._link(
            "row", self.record["row_id"], "preference_rows", self.written.generation,
            method=self.record["method"], label=row.label, iteration=self.record["iteration"],
            prompt=row.prompt_id, messages_in_prompt=len(row.prompt), made_from=self.written.name,
        )  # fmt: skip
        self._note(link, row_faults(self.record))
        self._held(link, "row_nodes", self.written.generation, self.record["row_id"])

    def _nodes(self) -> tuple[tuple[Tree, ...], tuple[tuple[str, Node], ...]]:
        warehouse, record = self.context.warehouse, self.record
        found = warehouse.rows(
            "SELECT * FROM row_nodes WHERE iteration = ? AND generation = ? AND row_id = ? ORDER BY ALL",
            [record["iteration"], record["generation"], record["row_id"]],
        )
        ids = list(dict.fromkeys([record["rollout_id"], *(one["rollout_id"] for one in found)]))
        # One by one: DuckDB skips what cannot be equal, and among millions of rows that is most.
        trees = {tree.rollout_id: tree for name in ids for tree in stored_trees(warehouse, [name])}
        for name in ids:
            if name not in trees:
                missing = f"Tree {name} is missing, and row {record['row_id']} comes from it."
                self._note(self._link("tree", name), [missing])
        came_from: list[tuple[str, Node]] = []
        for one in found:
            tree = trees.get(one["rollout_id"])
            node = tree.by_id.get(one["node_id"]) if tree is not None else None
            if node is None:
                link = self._link("node", one["node_id"], tree=one["rollout_id"])
                self._note(link, [f"Node {one['node_id']} is missing, and the row comes from it."])
                continue
            came_from.append((one["part"], node))
            self._link(
                "node", node.node_id, tree=one["rollout_id"], part=one["part"], round=node.round,
                path="·".join(map(str, node.path)), golden=node.golden, successful=node.successful,
                earned=", ".join(str(milestone + 1) for milestone in node.earned) or "nothing",
                completions=len(node.completions),
                tokens=sum(one.completion_tokens for one in node.completions),
                prompt_tokens_digest=", ".join(one.prompt_digest or "not given" for one in node.completions),
            )  # fmt: skip
        return tuple(trees.values()), tuple(came_from)

    def _tree(self, tree: Tree, row: Row) -> Task | None:
        context = self.context
        link = self._link(
            "tree", tree.rollout_id, "trees", None, goal=tree.goal_id, policy=tree.policy_digest,
            seed=tree.seed, settings=tree.settings_digest, retry=tree.retry, reward=tree.reward,
            rounds=tree.rounds, nodes=len(tree.nodes),
        )  # fmt: skip
        self._held(link, "nodes", None, tree.rollout_id)
        self._note(link, [*id_faults("trees", vars(tree)), *tree_faults(tree), *self._unlike_listed(tree)])
        settings = context.settings(self.written)
        named = self.record["rollout_id"] == tree.rollout_id
        if settings is not None and named and not derives(row, tree, settings):
            self._note(link, [f"Training row {self.record['row_id']} does not come from this tree."])
        goals, corpus = context.ancestor(self.written, "goals"), context.ancestor(self.written, "corpus")
        environment = context.environment(goals) if goals is not None else None
        if goals is None or corpus is None or environment is None:
            return None
        goal = context.tasks(goals, [tree.goal_id]).get(tree.goal_id)
        if goal is None:
            missing = self._link("goal", tree.goal_id)
            self._note(missing, [f"Goal {tree.goal_id} is missing, and tree {tree.rollout_id} is for it."])
            return None
        self._link(
            "goal", goal.goal_id, "goals", goals, source=goal.source_id, split=goal.split, kind=goal.kind,
            title=goal.title, calls=len(goal.calls), wish=" ".join(goal.message),
        )  # fmt: skip
        self._link("source", goal.source_id, "sources", corpus, corpus=f"{corpus.key}/{corpus.number}")
        found = relabelled(tree, environment.world(goal, searching=True))
        self._note(link, [found] if isinstance(found, str) else disagreements(tree, found))
        return goal

    def _unlike_listed(self, tree: Tree) -> list[str]:
        """Hold a tree to its nodes, and to what the generation listed that the row was harvested from."""
        warehouse, name = self.context.warehouse, tree.rollout_id
        faults = []
        if not warehouse.rows(
            "SELECT 1 FROM trees WHERE rollout_id = ? AND nodes_digest = "
            f"(SELECT {combined('node_id')} FROM nodes WHERE rollout_id = ?)",
            [name, name],
        ):
            faults.append(f"The nodes of tree {name} are not those that were written with it.")
        source = self.written.input("rollouts")
        if source is not None and not warehouse.rows(
            "SELECT 1 FROM rollouts r JOIN trees t USING (rollout_id) WHERE r.iteration = ? "
            "AND r.generation = ? AND rollout_id = ? AND r.tree_digest = t.digest",
            [source.scope, source.number, name],
        ):
            faults.append(f"Tree {name} is not what {source.key}/{source.number} listed.")
        return faults

    def _sources(self) -> None:
        source = self.context.ancestor(self.written, "corpus")
        about = self.context.row("corpora", source)
        if about is not None:
            self._link(
                "corpus", about["corpus_digest"], "corpora", source,
                name=about["name"], source=about["source"], licence=about["licence"],
            )  # fmt: skip

    def _policy(self) -> None:
        policy, cold_start = self.written.input("policy"), self.context.ancestor(self.written, "cold_start")
        row, base = self.context.row("policies", policy), self.context.row("base_models", cold_start)
        if row is not None:
            self._link(
                "policy", row["policy_digest"], "policies", policy, kind=row["kind"], attempt=row["attempt"],
                adapter=row["adapter_digest"] or "none: the base alone", base=row["base_digest"],
            )  # fmt: skip
        if base is not None:
            self._link(
                "model", base["base_digest"], "base_models", cold_start, model=base["model"],
                foundation=base["foundation_digest"], demonstrations=base["demonstrations"],
            )  # fmt: skip

    def _runs(self, trees: Sequence[Tree]) -> None:
        found = self.context.warehouse.rows(
            "SELECT DISTINCT run_id FROM trees WHERE list_contains(?, rollout_id)",
            [[tree.rollout_id for tree in trees]],
        )
        did = {row["run_id"]: "searched the tree" for row in found}
        did[self.written.run_id] = " and ".join(filter(None, [did.get(self.written.run_id), "harvested"]))
        for run_id, what in did.items():
            rows = self.context.warehouse.rows("SELECT * FROM runs WHERE run_id = ?", [run_id])
            if not rows:
                self._note(self._link("run", run_id), [f"The record of run {run_id} is missing."])
                continue
            versions = json.loads(rows[0]["packages"])
            self._link(
                "run", run_id, "runs", None, did=what,
                started=rows[0]["started_at"].isoformat(timespec="seconds"), profile=rows[0]["profile"],
                seed=rows[0]["seed"], settings=rows[0]["settings_digest"],
                git_commit=rows[0]["git_commit"] or "none: not a checkout",
                versions=", ".join(f"{name} {number}" for name, number in versions.items()),
            )  # fmt: skip

    def _adapters(self) -> None:
        context = self.context
        for generation, written in context.known.items():
            if generation.stage != "adapter" or self.written.generation not in written.inputs:
                continue
            row = context.row("trainings", generation)
            if row is None:
                continue
            link = self._link(
                "adapter", row["adapter_digest"], "trainings", generation, candidate=row["policy_digest"],
                method=row["method"], rows=row["rows"], rows_digest=row["rows_digest"],
                went_on_from=row["parent_digest"] or "the base", files=row["adapter_path"],
                made_from=written.name,
            )  # fmt: skip
            before = len(context.audit.findings)
            check_folder(context, f"trainings {row['adapter_digest']}", row["adapter_path"], row["adapter_digest"])
            check_manifest(context, f"trainings {row['adapter_digest']}", row, json.loads(row["manifest"]))
            link.findings += context.audit.findings[before:]
            self._judged(row["policy_digest"])

    def _judged(self, candidate: str) -> None:
        """How the candidate did, and whether it was promoted."""
        warehouse = self.context.warehouse
        for row in warehouse.rows(
            "SELECT * FROM evaluations WHERE policy_digest = ? AND side = 'after' ORDER BY ALL", [candidate]
        ):
            of = Generation("evaluation", row["iteration"], row["generation"])
            part = (row["side"], row["role"], row["goal_kind"])
            link = self._link(
                "evaluation", "/".join(part), None, of, policy=candidate, iteration=row["iteration"],
                generation=row["generation"], goals=row["n"],
                reward=round(row["mean_reward"], 3), success=round(row["success_rate"], 3),
            )  # fmt: skip
            self._held(link, "evaluations", of, *part)
        for row in warehouse.rows("SELECT * FROM promotions WHERE policy_digest = ? ORDER BY ALL", [candidate]):
            self._link(
                "promotion", row["policy_digest"], "promotions",
                Generation("promotion", row["iteration"], row["generation"]), iteration=row["iteration"],
                generation=row["generation"], promoted=row["promoted"], reason=row["reason"],
            )  # fmt: skip

    def _generations(self) -> None:
        """The chain of digests, from the corpus to the rows and the adapters made of them."""
        known = self.context.known
        rows = self.written.generation
        above = [g for g, written in known.items() if g.stage == "adapter" and rows in written.inputs]
        chain = ancestors(known, [rows, *above])
        for generation, written in known.items():
            if generation in chain:
                link = self._link(
                    "generation", written.name, digest=written.digest, content=written.content,
                    current=written.current, run=written.run_id,
                    written=written.created_at.isoformat(timespec="seconds"),
                )  # fmt: skip
                link.findings += digest_findings(self.context, written)


def audit_row(home: Home, prefix: str) -> RowAudit:
    """Check every link of one training row.

    Args:
        prefix: the first digits of its id.

    Raises:
        UserError: no row, or several, begin so.
    """
    warehouse = home.warehouse()
    with Reading(warehouse) as reading:
        context = Context(home, warehouse, history(warehouse), Audit(), reading)
        return Chain(context, find_row(context, prefix)).audited()


def find_row(context: Context, prefix: str) -> dict[str, Any]:
    """Return a row by the first digits of its id.

    Where it was harvested more than once, that is the one that an adapter was trained on, the standing one first;
    else the newest.
    """
    found = context.warehouse.rows(
        "SELECT r.* FROM preference_rows r JOIN harvests h USING (iteration, generation) "
        "WHERE starts_with(r.row_id, ?) ORDER BY h.standing DESC, h.trained DESC, h.created_at DESC, r.row_id",
        [prefix],
    )
    ids = {row["row_id"] for row in found}
    if len(ids) != 1:
        advice = "give an iteration of this home, or a row_id of the table preference_rows"
        none = f"No training row begins with {prefix!r}: {advice}."
        raise UserError(f"{len(ids)} training rows begin with {prefix!r}: give more digits." if ids else none)
    return found[0]


ADAPTERS = """
WITH saw AS (
    SELECT a.*, (
        SELECT count(DISTINCT r.row_id) FROM row_lineage r
        JOIN adapter_rows b ON r.iteration = b.rows_iteration AND r.generation = b.rows_generation
        WHERE b.adapter_digest = a.adapter_digest AND r.source_id = a.source_id
    ) AS rows
    FROM adapter_sources a WHERE a.source_id = $source
)
SELECT adapter_digest, policy_digest, iteration, generation, current, through, rows FROM saw
UNION
SELECT t.adapter_digest, t.policy_digest, t.iteration, t.generation, g.current,
       'the adapter that it went on from', 0
FROM adapter_ancestors u
JOIN saw s ON s.adapter_digest = u.ancestor_digest AND s.through = 'rows'
JOIN trainings t ON t.adapter_digest = u.adapter_digest
JOIN generations g ON g.stage = 'adapter' AND g.scope = t.iteration AND g.generation = t.generation
WHERE u.ancestor_digest <> u.adapter_digest
ORDER BY iteration, generation, through DESC
"""

SEARCHES = """
SELECT s.* EXCLUDE (source_id), (
    SELECT count(DISTINCT row_id) FROM row_nodes r WHERE r.rollout_id = s.rollout_id
) AS rows
FROM source_searches s WHERE source_id = ? ORDER BY iteration, goal_id, policy_digest, retry
"""


@dataclass(frozen=True)
class SourceUse:
    """What became of a source: backwards, over all generations.

    Attributes:
        source_id: as in the corpus.
        goals: goals that were derived from it: goal_id, role, kind, title.
        adapters: adapters that were trained on it, or that went on from one that was: adapter_digest,
            policy_digest, iteration, generation, current, status, ``through`` (``rows``, ``demonstrations``,
            or ``the adapter that it went on from``), and how many training ``rows`` came from it.
        bases: bases whose cold start demonstrated it: base_digest, scope, generation, current, status.
        searches: trees that were grown for it, whatever they earned: rollout_id, iteration (None where the step
            did not end), policy_digest, retry, reward, failure, and how many training ``rows`` came of them.
        evaluations: evaluations that played it: policy_digest, stage, scope, generation, role, reward, ...
    """

    source_id: str
    goals: list[dict[str, Any]]
    adapters: list[dict[str, Any]]
    bases: list[dict[str, Any]]
    searches: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]


def source_use(warehouse: Warehouse, source_id: str) -> SourceUse:
    """Find everything that ever saw a source.

    Raises:
        UserError: no goal of the store comes from it.
    """
    name = source_id.removesuffix(".json")
    with warehouse.connection():
        goals = warehouse.rows(
            "SELECT DISTINCT goal_id, role, kind, title, corpus_digest FROM goals WHERE source_id = ? "
            "ORDER BY kind DESC, title, goal_id",
            [name],
        )
        if not goals:
            raise UserError(f"No goal of this home comes from {name!r}: take a source that josh goals prints.")
        known = history(warehouse)
        adapters = warehouse.rows(ADAPTERS, {"source": name})
        bases = warehouse.rows(
            "SELECT * EXCLUDE (source_id) FROM base_sources WHERE source_id = ? ORDER BY ALL", [name]
        )
        searches = warehouse.rows(SEARCHES, [name])
        evaluations = warehouse.rows(
            "SELECT * EXCLUDE (source_id) FROM source_evaluations WHERE source_id = ? "
            "ORDER BY stage DESC, scope, generation, policy_digest, goal_id",
            [name],
        )
    for found, stage, scope in ((adapters, "adapter", "iteration"), (bases, "cold_start", "scope")):
        for one in found:
            replaced = superseded_findings(known, Generation(stage, one[scope], one["generation"]))
            one["status"] = "superseded" if replaced else "current"
    return SourceUse(name, goals, adapters, bases, searches, evaluations)
