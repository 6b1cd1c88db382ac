"""Rows dealt into batches that pack what rows of a tree share; rows as TRL's users write them."""

import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from josh_pipeline.core.errors import UserError
from josh_pipeline.core.messages import Conversation
from josh_pipeline.harvest.rows import Row, Tools
from josh_pipeline.policies.chat import template_message


def refuse_long(lengths: Sequence[int], max_tokens: int) -> None:
    """Refuse rows that training would have to cut.

    Raises:
        UserError: a row is longer than ``max_tokens``.
    """
    long = [length for length in lengths if length > max_tokens]
    if long:
        raise UserError(
            f"{len(long)} of {len(lengths)} rows are longer than training.max_tokens = {max_tokens} "
            f"(the longest has {max(long)}): raise it."
        )


def conversational(row: Row) -> dict[str, Any]:
    """Return a row in TRL's conversational form, without its tools; a sample with what TRL has no column for."""
    if row.kind == "conversations":
        return {"messages": _chat(row.conversation(row.sides[0]), row.tools)}
    sides = [_chat(side.messages, row.tools) for side in row.sides]
    prompt = {"prompt": _chat(row.prompt, row.tools)}
    if row.kind == "pairs":
        return prompt | {"chosen": sides[0], "rejected": sides[1]}
    if row.sample is not None:
        return prompt | {"completion": sides[0], "token_ids": row.sides[0].said[0].token_ids} | asdict(row.sample)
    return prompt | {"completion": sides[0], "label": row.label == "desirable"}


def _chat(messages: Conversation, tools: Tools) -> list[dict[str, Any]]:
    return [template_message(message, structured=bool(tools)) for message in messages]


def tree_batches(trees: Sequence[str], batch_size: int, seed: int) -> list[list[int]]:
    """Deal rows into batches so that the rows of a tree stand in as few as possible.

    Args:
        trees: the tree of each row.

    Returns:
        Positions of rows; every batch but the last is full.
    """
    return _dealt(trees, range(len(trees)), batch_size, seed, halves=False)


def mixed_batches(trees: Sequence[str], prompts: Sequence[str], batch_size: int, seed: int) -> list[list[int]]:
    """Deal rows as ``tree_batches``, but so that no row follows one of its own tree.

    KTO estimates its KL term on mismatched pairs: each row's prompt with the completion of the row
    before it in the batch, the first row's with the last one's. Siblings say nothing there, for their
    prompts are beginnings of each other. So no tree gets more than half of a batch, and rows for which
    that leaves no place are left out: those of a tree that outnumbers all others, and a last single one.
    Rows of different trees with the same prompt, as first turns have it, are kept apart as far as the
    batch allows.

    Args:
        trees: the tree of each row.
        prompts: the prompt of each row.
    """
    dealt = _dealt(trees, range(len(trees)), batch_size, seed, halves=True)
    return [_apart(_alternating(batch, trees), trees, prompts) for batch in dealt]


@dataclass
class _Batch:
    """A batch that is being filled: ``most`` rows of one tree at most."""

    size: int
    most: int
    rows: list[int] = field(default_factory=list)
    count: Counter[str] = field(default_factory=Counter)

    @property
    def free(self) -> int:
        return self.size - len(self.rows)

    def room(self, tree: str) -> int:
        return min(self.free, self.most - self.count[tree])

    def add(self, row: int, tree: str) -> None:
        self.rows.append(row)
        self.count[tree] += 1

    def remove(self, row: int, tree: str) -> None:
        self.rows.remove(row)
        self.count[tree] -= 1


def _dealt(trees: Sequence[str], rows: Sequence[int], batch_size: int, seed: int, halves: bool) -> list[list[int]]:
    draw = random.Random(seed)
    groups: dict[str, list[int]] = {}
    for row in rows:
        groups.setdefault(trees[row], []).append(row)
    order = list(groups.items())
    draw.shuffle(order)
    full, rest = divmod(len(rows), batch_size)
    sizes = [batch_size] * full + [rest] * (rest > 0)
    batches = [_Batch(size, size // 2 if halves else size) for size in sizes]
    left = []
    for tree, waiting in sorted(order, key=lambda group: -len(group[1])):
        draw.shuffle(waiting)
        for wanted, row in zip(range(len(waiting), 0, -1), waiting, strict=True):
            open_to = [batch for batch in batches if batch.room(tree) > 0]
            if open_to:
                # Where the tree is already, else where most of it fits, the fullest of those.
                ranks = [(b.count[tree], min(wanted, b.room(tree)), -b.free) for b in open_to]
                open_to[ranks.index(max(ranks))].add(row, tree)
            elif not _swapped_in(row, trees, batches):
                left.append(row)
    if left:
        kept = [row for row in rows if row not in set(left)]
        return _dealt(trees, kept, batch_size, seed, halves)
    whole = [batch.rows for batch in batches]
    first = whole[:full]
    draw.shuffle(first)
    return first + whole[full:]


def _swapped_in(row: int, trees: Sequence[str], batches: Sequence[_Batch]) -> bool:
    """Place a row whose tree has its half of every batch with room, by moving another row there."""
    tree = trees[row]
    for roomy in batches:
        if not roomy.free:
            continue
        for other in batches:
            if other.count[tree] >= other.most:
                continue
            for moved in other.rows:
                if trees[moved] != tree and roomy.room(trees[moved]) > 0:
                    other.remove(moved, trees[moved])
                    roomy.add(moved, trees[moved])
                    other.add(row, tree)
                    return True
    return False


def _alternating(batch: Sequence[int], trees: Sequence[str]) -> list[int]:
    """Order a batch so that no two neighbours, the last and the first included, are of one tree."""
    count = Counter(trees[row] for row in batch)
    grouped = sorted(batch, key=lambda row: (-count[trees[row]], trees[row]))
    ordered = list(batch)
    # Every other place first: a group of at most half the places never meets itself.
    places = [*range(0, len(batch), 2), *range(1, len(batch), 2)]
    for place, row in zip(places, grouped, strict=True):
        ordered[place] = row
    return ordered


def _apart(batch: Sequence[int], trees: Sequence[str], prompts: Sequence[str]) -> list[int]:
    """Swap rows as long as fewer neighbours share a prompt for it, and none a tree."""
    order = list(batch)
    places = range(len(order))

    def clashes(seats: Collection[int]) -> tuple[int, int]:
        pairs = [(order[seat], order[seat - 1]) for seat in seats]
        of_trees = sum(trees[one] == trees[other] for one, other in pairs)
        return of_trees, sum(prompts[one] == prompts[other] for one, other in pairs)

    def better_by(one: int, other: int) -> bool:
        """Swap two rows where that helps."""
        seats = {seat % len(order) for place in (one, other) for seat in (place, place + 1)}
        before = clashes(seats)
        order[one], order[other] = order[other], order[one]
        if clashes(seats) < before:
            return True
        order[one], order[other] = order[other], order[one]
        return False

    def moved(place: int) -> bool:
        clashing = prompts[order[place]] == prompts[order[place - 1]]
        return clashing and any(better_by(one, other) for one in (place, place - 1) for other in places)

    while any(moved(place) for place in places):
        pass
    return order
