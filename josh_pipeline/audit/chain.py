"""The links of one training row: what it came from, and what was made of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from josh_pipeline.audit.context import Context
from josh_pipeline.audit.findings import Audit, Finding
from josh_pipeline.audit.sealing import changed_sentence, digest_findings, unsealed_sentence
from josh_pipeline.audit.searched import derives, relabelled, row_faults, tree_faults
from josh_pipeline.audit.sources import check_folder
from josh_pipeline.audit.trained import check_manifest
from josh_pipeline.environments.toolwoz.goal import Goal
from josh_pipeline.environments.toolwoz.world import worlds
from josh_pipeline.harvest.codec import row_from_record
from josh_pipeline.harvest.labels import disagreements
from josh_pipeline.harvest.rows import Row, SftRow, prompt_id
from josh_pipeline.search.codec import tree_from_records
from josh_pipeline.search.tree import Node, Tree
from josh_pipeline.store.lineage import ancestors
from josh_pipeline.store.seals import RUNS, changed_keys, replaced_members, unsealed_content
from josh_pipeline.store.warehouse import Generation


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
    goal: Goal | None
    links: tuple[Link, ...]
    audit: Audit


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
        self.keys: dict[tuple[str, str], set[str]] = {}
        self.trees: list[str] = []
        self.replaced: set[str] = set()

    def audited(self) -> RowAudit:
        """Follow every link, down to the corpus and up to the promotions."""
        row = row_from_record(self.record)
        self._row(row)
        trees, nodes = self._nodes(row)
        goal = None
        for tree in trees:
            found = self._tree(tree, row)
            goal = goal or found
        self._sources()
        self._policy()
        self._runs(trees)
        self._adapters()
        self._generations()
        self._seals()
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
            table: where its row stands, which is held to its seal.
            of: the generation that the row belongs to.
        """
        link = Link(kind, name, facts)
        self.links.append(link)
        if table is not None and of is not None:
            self._sealed(table, f"{of.key}/{of.number}", name)
        return link

    def _sealed(self, table: str, unit: str, key: str) -> None:
        self.keys.setdefault((table, unit), set()).add(key)

    def _note(self, link: Link, messages: Sequence[str]) -> None:
        link.findings += [Finding("broken", f"{link.kind} {link.name}", message) for message in messages]

    def _row(self, row: Row) -> None:
        prompt = row.messages[:1] if isinstance(row, SftRow) else row.prompt
        label = "pair" if self.record["method"] == "dpo" else (
            "desirable" if self.record["desirable"] else "undesirable"
        )  # fmt: skip
        link = self._link(
            "row", self.record["row_id"], "preference_rows", self.written.generation,
            method=self.record["method"], label=label, iteration=self.record["iteration"],
            prompt=prompt_id(row.tools, prompt), messages_in_prompt=len(prompt), made_from=self.written.name,
        )  # fmt: skip
        self._note(link, row_faults(self.record))

    def _nodes(self, row: Row) -> tuple[tuple[Tree, ...], tuple[tuple[str, Node], ...]]:
        warehouse, record = self.context.warehouse, self.record
        found = warehouse.rows(
            "SELECT * FROM row_nodes WHERE iteration = ? AND generation = ? AND row_id = ? ORDER BY ALL",
            [record["iteration"], record["generation"], record["row_id"]],
        )
        for one in found:
            self._sealed("row_nodes", self.written.name, f"{one['row_id']}/{one['node_id']}/{one['part']}")
        ids = list(dict.fromkeys([record["rollout_id"], *(one["rollout_id"] for one in found)]))
        self.trees, self.replaced = ids, self._replaced(ids)
        trees = {}
        for name in ids:
            records = warehouse.rows("SELECT * FROM trees WHERE rollout_id = ?", [name])
            nodes = warehouse.rows("SELECT * FROM nodes WHERE rollout_id = ?", [name])
            if records:
                trees[name] = tree_from_records(records[0], nodes)
            else:
                link = self._link("tree", name)
                self._note(link, [f"Tree {name} is missing, and row {record['row_id']} comes from it."])
        came_from: list[tuple[str, Node]] = []
        for one in found:
            if one["rollout_id"] in self.replaced:
                # A node of the tree that is there now may stand at the same place: it is another one.
                self._link("node", one["node_id"], tree=one["rollout_id"], part=one["part"], replaced=True)
                continue
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

    def _replaced(self, ids: Sequence[str]) -> set[str]:
        """Which of the row's trees had failed when it was harvested, and were searched again since."""
        source = self.written.input("rollouts")
        if source is None or source not in self.context.known:
            return set()
        with self.context.warehouse.connection() as connection:
            return replaced_members(connection, source.stage, source.scope, source.number, ids)

    def _tree(self, tree: Tree, row: Row) -> Goal | None:
        context = self.context
        link = self._link(
            "tree", tree.rollout_id, goal=tree.goal_id, policy=tree.policy_digest, seed=tree.seed,
            settings=tree.settings_digest, reward=tree.reward, rounds=tree.rounds, nodes=len(tree.nodes),
        )  # fmt: skip
        self._note(link, tree_faults(tree))
        settings = context.settings(self.written)
        named = self.record["rollout_id"] == tree.rollout_id
        if tree.rollout_id in self.replaced:
            message = f"Tree {tree.rollout_id} had failed when the row was harvested, and was searched again "
            message += "since: the row is held to its seal alone."
            link.findings.append(Finding("superseded", f"tree {tree.rollout_id}", message))
        elif settings is not None and named and not derives(row, tree, settings):
            self._note(link, [f"Training row {self.record['row_id']} does not come from this tree."])
        goals, corpus = context.ancestor(self.written, "goals"), context.ancestor(self.written, "corpus")
        known = context.goals(goals, [tree.goal_id]) if goals is not None else {}
        if tree.goal_id not in known or corpus is None:
            missing = self._link("goal", tree.goal_id, "goals", goals)
            self._note(missing, [f"Goal {tree.goal_id} is missing, and tree {tree.rollout_id} is for it."])
            return None
        goal, semantics = known[tree.goal_id]
        self._link(
            "goal", goal.goal_id, "goals", goals, dialogue=goal.dialogue_id, split=goal.split,
            part=goal.part or "whole", semantics=semantics, calls=len(goal.calls),
            wish=" ".join(goal.message),
        )  # fmt: skip
        self._link("dialogue", goal.dialogue_id, "dialogues", corpus, corpus=f"{corpus.key}/{corpus.number}")
        found = relabelled(tree, worlds(context.corpus(corpus), semantics, inside_search=True)(goal))
        self._note(link, [found] if isinstance(found, str) else disagreements(tree, found))
        return goal

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
            self._sealed(RUNS, RUNS, run_id)
            self._link(
                "run", run_id, did=what, started=rows[0]["started_at"].isoformat(timespec="seconds"),
                profile=rows[0]["profile"], seed=rows[0]["seed"], settings=rows[0]["settings_digest"],
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
            check_folder(
                context, f"trainings {row['adapter_digest']}", row["adapter_path"], row["adapter_digest"]
            )
            check_manifest(context, f"trainings {row['adapter_digest']}", row, json.loads(row["manifest"]))
            link.findings += context.audit.findings[before:]
            self._judged(row["policy_digest"])

    def _judged(self, candidate: str) -> None:
        """How the candidate did, and whether it was promoted."""
        warehouse = self.context.warehouse
        for row in warehouse.rows(
            "SELECT * FROM evaluations WHERE policy_digest = ? AND side = 'after' ORDER BY ALL", [candidate]
        ):
            self._link(
                "evaluation", f"{row['side']}/{row['role']}/{row['goal_kind']}", "evaluations",
                Generation("evaluation", row["iteration"], row["generation"]),
                policy=candidate, iteration=row["iteration"], generation=row["generation"], goals=row["n"],
                reward=round(row["mean_reward"], 3), success=round(row["success_rate"], 3),
            )  # fmt: skip
        for row in warehouse.rows(
            "SELECT * FROM promotions WHERE policy_digest = ? ORDER BY ALL", [candidate]
        ):
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
                    "generation", written.name, None, digest=written.digest or "not sealed",
                    content=written.content or "not sealed", current=written.current, run=written.run_id,
                    written=written.created_at.isoformat(timespec="seconds"),
                )  # fmt: skip
                link.findings += digest_findings(self.context, written)

    def _seals(self) -> None:
        """Hold each row that the chain names to its seal."""
        with self.context.warehouse.connection() as connection:
            keys = {unit: sorted(names) for unit, names in self.keys.items()}
            changed = changed_keys(connection, keys, self.trees)
            unsealed = unsealed_content(connection, self.trees)
        found = [(row.table, row.key, *changed_sentence(row)) for row in changed]
        found += [
            (table, unit, *unsealed_sentence(table, unit)) for table, unit, excused in unsealed if not excused
        ]
        by_name = {(link.kind, link.name): link for link in self.links}
        for table, key, where, message in found:
            link = by_name.get((KINDS.get(table, ""), key), self.links[0])
            link.findings.append(Finding("broken", where, message))


KINDS = {
    "preference_rows": "row", "nodes": "node", "trees": "tree", "goals": "goal", "dialogues": "dialogue",
    "corpora": "corpus", "policies": "policy", "base_models": "model", "runs": "run", "trainings": "adapter",
    "evaluations": "evaluation", "promotions": "promotion",
}  # fmt: skip
"""Table to the kind of link that stands for its rows."""
