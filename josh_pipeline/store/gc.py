"""What a home can do without: superseded generations, adapters and checkpoints that nothing needs.

Nothing goes that a current generation descends from, nor what a refused promotion was about: a refusal is
a result, and its adapter stays for the audit. A removed generation keeps its row in ``generations`` with
its digest, so that the chain of digests stays whole.

Trees and conversations go with the generations that list them. All tries of one share their fate, for those
that failed count to the budget of the one that did not: they stay while something kept lists any of them, and
go once nothing but what goes lists one. What no generation lists is unfinished work, and stays.
"""

import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from josh_pipeline.core.locks import WORK_LOCK, alone
from josh_pipeline.store.home import Home
from josh_pipeline.store.layout import TRY, Layout, Members
from josh_pipeline.store.lineage import History, Written, ancestors, history
from josh_pipeline.store.warehouse import Generation, Warehouse, transaction

RESUMABLE_S = 24 * 3600.0
"""An interrupted training goes on from its folder; one that nobody came back to for a day is stale."""


@dataclass(frozen=True)
class Leftover:
    """A file or folder that goes.

    Attributes:
        why: what it is, in a few words.
        size: bytes.
    """

    path: Path
    why: str
    size: int


Condition = tuple[str, str, list[object]]


@dataclass(frozen=True)
class Waste:
    """What goes.

    Attributes:
        generations: superseded, and nothing kept descends from them.
        rows: their rows by table, trees and conversations that only they listed included.
        conditions: table, SQL condition and its parameters that find those rows.
        files: adapters, checkpoints and work folders.
    """

    generations: tuple[Written, ...]
    rows: dict[str, int]
    conditions: list[Condition]
    files: tuple[Leftover, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


@contextmanager
def undisturbed(home: Home) -> Iterator[None]:
    """Keep every run out of a home.

    Raises:
        UserError: one is under way.
    """
    sentence = f"A run works in {home.root}: wait for its end, or stop it, then run josh gc again."
    with alone(home.root / "iterate.lock", sentence), alone(home.root / WORK_LOCK, sentence):
        yield


def find_waste(home: Home) -> Waste:
    """Find what a home can do without; nothing is changed."""
    warehouse = home.warehouse()
    with warehouse.connection() as connection:
        known = history(warehouse)
        kept = kept_generations(warehouse, known)
        gone = tuple(w for g, w in known.items() if g not in kept and not w.removed)
        conditions = _conditions(connection, home.layout, gone, kept)
        counts: Counter[str] = Counter()
        for table, where, values in conditions:
            counts[table] += connection.execute(f"SELECT count(*) FROM {table} WHERE {where}", values).fetchall()[0][0]
        files = tuple(sorted(_files(home, warehouse, kept), key=lambda file: str(file.path)))
    return Waste(gone, dict(+counts), conditions, files)


def kept_generations(warehouse: Warehouse, known: History) -> set[Generation]:
    """Return what is current, what was refused, and all that these descend from."""
    roots = [generation for generation, written in known.items() if written.current]
    roots += [
        Generation("promotion", row["iteration"], row["generation"])
        for row in warehouse.rows("SELECT iteration, generation FROM promotions WHERE NOT promoted")
    ]
    return ancestors(known, roots)


def remove(home: Home, waste: Waste) -> None:
    """Remove what was found: rows in one transaction, then files."""
    with home.warehouse().connection() as connection:
        with transaction(connection):
            for table, where, values in waste.conditions:
                connection.execute(f"DELETE FROM {table} WHERE {where}", values)
            for one in (written.generation for written in waste.generations):
                connection.execute(
                    "UPDATE generations SET removed_at = ? WHERE stage = ? AND scope = ? AND generation = ?",
                    [datetime.now(UTC), one.stage, one.scope, one.number],
                )
        connection.execute("CHECKPOINT")
    for file in waste.files:
        if file.path.is_dir():
            shutil.rmtree(file.path)
        else:
            file.path.unlink()


def _unneeded(
    connection: duckdb.DuckDBPyConnection,
    layout: Layout,
    members: Members,
    gone: tuple[Written, ...],
    kept: set[Generation],
) -> list[str]:
    """Return the trees or conversations of which only what goes lists a try."""
    listed: dict[str, bool] = {}
    for generation in [*(written.generation for written in gone), *kept]:
        stage = layout.stages[generation.stage]
        if stage.members is not None and stage.members.content == members.content:
            found = connection.execute(
                f"SELECT {members.key} FROM {stage.members.table} WHERE {stage.scope} = ? AND generation = ?",
                [generation.scope, generation.number],
            ).fetchall()
            for (name,) in found:
                listed[name] = listed.get(name, False) or generation in kept
    key = members.key
    found = connection.execute(
        f"WITH listed AS (SELECT unnest($names) AS {key}, unnest($kept) AS kept), "
        f"tries AS (SELECT {TRY}, bool_or(kept) AS kept FROM {members.head} JOIN listed USING ({key}) "
        f"GROUP BY ALL) SELECT {key} FROM {members.head} JOIN tries USING ({TRY}) WHERE NOT kept",
        {"names": list(listed), "kept": list(listed.values())},
    ).fetchall()
    return sorted(row[0] for row in found)


def _conditions(
    connection: duckdb.DuckDBPyConnection, layout: Layout, gone: tuple[Written, ...], kept: set[Generation]
) -> list[Condition]:
    found: list[Condition] = []
    for one in (written.generation for written in gone):
        stage = layout.stages[one.stage]
        where = f"{stage.scope} = ? AND generation = ?"
        found += [(table, where, [one.scope, one.number]) for table in stage.tables]
    # One list of trees, and one of conversations: which stage lists them is left open.
    for members in {one.content: one for one in layout.member_lists.values()}.values():
        ids = _unneeded(connection, layout, members, gone, kept)
        found += [(table, f"list_contains(?, {members.key})", [ids]) for table in members.content]
    return found


def _files(home: Home, warehouse: Warehouse, kept: set[Generation]) -> Iterator[Leftover]:
    adapters = _stored(warehouse, kept, "adapter_path", ("trainings", "base_models", "policies", "promotions"))
    needed = {home.absolute(path) for path in adapters}
    for path in _children(home.adapters):
        if path.with_suffix("") not in needed:
            yield _leftover(path, "adapter that nothing kept refers to")
    bases = {home.absolute(path) for path in _stored(warehouse, kept, "base_path", ("base_models", "policies"))}
    for path in _children(home.models):
        if path.name.startswith("base-") and path.with_suffix("") not in bases:
            yield _leftover(path, "base that nothing kept refers to")
        elif path.name.endswith(".partial"):
            yield _leftover(path, "unfinished checkpoint")
    current = warehouse.rows(
        "SELECT policy_digest FROM current_policies UNION SELECT policy_digest FROM current_promotions"
    )
    served = {row["policy_digest"] for row in current}
    for path in _children(home.merged):
        if path.with_suffix("").name not in served:
            yield _leftover(path, "merged checkpoint of no current policy; it can be made again")
    for path in _children(home.training):
        if time.time() - _touched(path) > RESUMABLE_S:
            yield _leftover(path, "training that nobody went on with")


def _stored(warehouse: Warehouse, kept: set[Generation], column: str, tables: tuple[str, ...]) -> set[str]:
    """Return the paths that the kept generations refer to."""
    found = set()
    for table in tables:
        stage = warehouse.layout.stage_of(table)
        assert stage is not None
        for row in warehouse.rows(f"SELECT {stage.scope} AS scope, generation, {column} FROM {table}"):
            if row[column] and Generation(stage.name, row["scope"], row["generation"]) in kept:
                found.add(row[column])
    return found


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _leftover(path: Path, why: str) -> Leftover:
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return Leftover(path, why, sum(one.stat().st_size for one in files))


def _touched(path: Path) -> float:
    return max(one.stat().st_mtime for one in [path, *path.rglob("*")])
