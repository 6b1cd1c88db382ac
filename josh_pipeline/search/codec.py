"""Dataclasses as flat records for the store, and back without loss; first of all trees.

A record's keys are the columns of its table in ``store/schema.sql``. What is nested is JSON text without the
fields that hold their default, which are most of a stored tree; the keys of a call's arguments keep their
order, because that order is what a prompt showed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, Generic, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter

from josh_pipeline.search.tree import Node, Tree, Usage

Record = dict[str, Any]
T = TypeVar("T")
USAGE = tuple(field.name for field in fields(Usage))
PLAIN = (str, int, float, bool, NoneType)


@cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """Return what writes and reads JSON of a type."""
    return TypeAdapter(kind)


def _text(kind: TypeAdapter[Any], value: Any) -> str:
    return kind.dump_json(value, exclude_defaults=True, warnings="error").decode()


class Flat(Generic[T]):
    """Instances of a dataclass as rows of a table: a column a field, JSON text where the field is nested.

    Args:
        kind: the dataclass.
        without: fields that are no columns.
        renamed: field to column, where the names differ.
    """

    def __init__(self, kind: type[T], without: Iterable[str] = (), renamed: Mapping[str, str] | None = None) -> None:
        self._kind = kind
        types = get_type_hints(kind)
        names = [field.name for field in fields(kind) if field.name not in without]  # type: ignore[arg-type]
        columns = {name: (renamed or {}).get(name, name) for name in names}
        self._plain = [(name, columns[name]) for name in names if _plain(types[name])]
        self._nested = [(name, columns[name], adapter(types[name])) for name in names if not _plain(types[name])]

    def record(self, value: T) -> Record:
        """Return a value's row."""
        found: Record = {column: getattr(value, name) for name, column in self._plain}
        for name, column, nested in self._nested:
            inner = getattr(value, name)
            found[column] = None if inner is None else _text(nested, inner)
        return found

    def read(self, record: Mapping[str, Any], **others: Any) -> T:
        """Rebuild a value from its row; further columns are ignored.

        Args:
            others: the fields that are no columns.
        """
        for name, column in self._plain:
            others[name] = record[column]
        for name, column, nested in self._nested:
            text = record[column]
            others[name] = None if text is None else nested.validate_json(text)
        return self._kind(**others)


def _plain(kind: Any) -> bool:
    """Whether a column holds values of a type as they are."""
    if get_origin(kind) in (Union, UnionType):
        return all(map(_plain, get_args(kind)))
    return get_origin(kind) is Literal or kind in PLAIN


_TREES = Flat(Tree, without=("nodes", "usage"))
_NODES = Flat(Node, renamed={"end": "ended"})


def usage_record(usage: Usage) -> Record:
    """Return what a conversation cost, a column a count."""
    return asdict(usage)


def usage_from_record(record: Mapping[str, Any]) -> Usage:
    """Read what ``usage_record`` gave; further columns are ignored."""
    return Usage(**{name: record[name] for name in USAGE})


def tree_record(tree: Tree) -> Record:
    """Return a tree's row of table ``trees``; its nodes are rows of their own."""
    return _TREES.record(tree) | usage_record(tree.usage)


def node_records(tree: Tree) -> list[Record]:
    """Return a tree's rows of table ``nodes``, in the tree's order."""
    return [
        {"rollout_id": tree.rollout_id, "position": position} | _NODES.record(node)
        for position, node in enumerate(tree.nodes)
    ]


def tree_from_records(record: Mapping[str, Any], nodes: Iterable[Mapping[str, Any]]) -> Tree:
    """Rebuild a tree.

    Args:
        record: its row of ``trees``; further columns are ignored.
        nodes: its rows of ``nodes``, in any order.
    """
    ordered = sorted(nodes, key=lambda row: row["position"])
    return _TREES.read(record, nodes=tuple(map(_NODES.read, ordered)), usage=usage_from_record(record))


def trees_from_records(records: Iterable[Mapping[str, Any]], nodes: Iterable[Mapping[str, Any]]) -> tuple[Tree, ...]:
    """Rebuild several trees, in the order of ``records``; ``nodes`` may hold those of other trees too."""
    by_tree: dict[str, list[Mapping[str, Any]]] = {}
    for node in nodes:
        by_tree.setdefault(node["rollout_id"], []).append(node)
    return tuple(tree_from_records(record, by_tree[record["rollout_id"]]) for record in records)
