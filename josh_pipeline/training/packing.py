"""Packed rows: many token sequences as one prefix tree, every shared prefix in it once.

The rows of a search tree are one conversation cut at many places, with a few tokens of their own at the
end. Packed, the conversation is computed once for all of them: one sequence in depth-first order, in
which a token attends to the tokens on its own path only, and its position is its depth.

The attention is registered with transformers as the implementation ``tree``, which every model takes that
passes its keyword arguments on to the attention function.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface

from josh_pipeline.core.errors import UserError
from josh_pipeline.training.tokens import IGNORED, TokenExample

IMPLEMENTATION = "tree"
"""Name to load a model with: ``attn_implementation=IMPLEMENTATION``."""
QUERY_BLOCK = 256
"""Tokens whose attention is computed together. A KTO batch of 16 rows (1,311 packed tokens, 135M parameters,
two contended cores), forward and backward: 64 tokens 5.4 s, 128 4.8 s, 256 4.7 s, 512 5.4 s."""


@dataclass(frozen=True)
class PackedRows:
    """Rows as one sequence of N tokens.

    The next-token distribution of a shared token serves all of its continuations, so what is scored is
    an *edge*: a position and a token that follows it. A row's score is the sum over its edges.

    Attributes:
        input_ids: the tokens in depth-first order, (N,).
        depths: each token's position in its own rows, (N,).
        ends: the position after the last descendant of each token, (N,); ``i`` lies before ``j`` on a
            path exactly if ``i <= j < ends[i]``.
        parents: positions whose next-token distribution is needed, (P,).
        edge_parent: for each edge, its place in ``parents``, (E,).
        edge_token: for each edge, the token that follows, (E,).
        item_row: row of each labelled token, (L,).
        item_edge: edge of each labelled token, (L,).
        rows: number of rows.
    """

    input_ids: Tensor
    depths: Tensor
    ends: Tensor
    parents: Tensor
    edge_parent: Tensor
    edge_token: Tensor
    item_row: Tensor
    item_edge: Tensor
    rows: int

    @property
    def tokens(self) -> int:
        """Tokens that are computed."""
        return len(self.input_ids)


def pack(examples: Sequence[TokenExample]) -> PackedRows:
    """Merge rows into a prefix tree.

    Equal prefixes are merged token by token, whichever rows they come from. Tokens after a row's last
    labelled one, and that one itself, are left out where no other row needs them: nothing reads them.
    """
    children: list[dict[int, int]] = [{}]
    token_of = [-1]
    edges: dict[tuple[int, int], int] = {}
    items: list[tuple[int, int]] = []
    for row, example in enumerate(examples):
        labelled = [p for p, label in enumerate(example.labels) if p and label != IGNORED]
        node = 0
        for position, token in enumerate(example.input_ids[: labelled[-1] + 1] if labelled else ()):
            if position and example.labels[position] != IGNORED:
                items.append((row, edges.setdefault((node, token), len(edges))))
            if position < labelled[-1]:
                if token not in children[node]:
                    children[node][token] = len(children)
                    children.append({})
                    token_of.append(token)
                node = children[node][token]
    place, depths, ends = _depth_first(children)
    order = sorted(range(1, len(children)), key=place.__getitem__)
    parents = sorted({place[node] for node, _ in edges})
    where = {position: index for index, position in enumerate(parents)}
    return PackedRows(
        input_ids=torch.tensor([token_of[node] for node in order], dtype=torch.long),
        depths=torch.tensor(depths, dtype=torch.long),
        ends=torch.tensor(ends, dtype=torch.long),
        parents=torch.tensor(parents, dtype=torch.long),
        edge_parent=torch.tensor([where[place[node]] for node, _ in edges], dtype=torch.long),
        edge_token=torch.tensor([token for _, token in edges], dtype=torch.long),
        item_row=torch.tensor([row for row, _ in items], dtype=torch.long),
        item_edge=torch.tensor([edge for _, edge in items], dtype=torch.long),
        rows=len(examples),
    )


def _depth_first(children: Sequence[dict[int, int]]) -> tuple[list[int], list[int], list[int]]:
    """Number the nodes below node 0.

    Returns:
        Each node's place in the sequence (-1 for node 0); and, by place, depth and end.
    """
    place = [-1] * len(children)
    depths: list[int] = []
    ends = [0] * (len(children) - 1)
    stack = [(node, 0) for node in reversed(children[0].values())]
    while stack:
        node, depth = stack.pop()
        if place[node] >= 0:  # met again after its descendants
            ends[place[node]] = len(depths)
            continue
        place[node] = len(depths)
        depths.append(depth)
        stack.append((node, depth))
        stack.extend((child, depth + 1) for child in reversed(children[node].values()))
    return place, depths, ends


def visible_blocks(ends: Tensor, size: int = QUERY_BLOCK) -> list[tuple[Tensor, Tensor]]:
    """Say which tokens attend to which, a block of ``size`` tokens at a time.

    Args:
        ends: of ``PackedRows``, (N,).

    Returns:
        For each block of n tokens the m positions that any of them attends to, (m,), and which of them
        each does, (n, m), true where it does.
    """
    blocks = []
    for start in range(0, len(ends), size):
        stop = min(start + size, len(ends))
        keys = torch.nonzero(ends[:stop] > start)[:, 0]
        queries = torch.arange(start, stop, device=ends.device)[:, None]
        blocks.append((keys, (keys <= queries) & (queries < ends[keys])))
    return blocks


def tree_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    tree: Sequence[tuple[Tensor, Tensor]] = (),
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend block by block, each to the keys that it can see.

    Args:
        query: (1, heads, N, d).
        key, value: (1, key heads, N, d).
        tree: of ``visible_blocks``.

    Raises:
        UserError: the model's attention is of a kind that is not computed here.
    """
    if sliding_window is not None or softcap is not None or s_aux is not None or not tree:
        raise UserError(f"The attention of {type(module).__name__} cannot be packed: set training.packed to false.")
    attend = _fused if query.is_cuda else _unfused
    parts, start = [], 0
    for keys, visible in tree:
        part = query[0, :, start : start + len(visible)]
        parts.append(attend(part, key[0][:, keys], value[0][:, keys], visible, scaling, dropout))
        start += len(visible)
    return torch.cat(parts, dim=1).transpose(0, 1)[None].contiguous(), None


def _unfused(query: Tensor, key: Tensor, value: Tensor, visible: Tensor, scaling: float, dropout: float) -> Tensor:
    """Attend with two matrix products, which on CPU is faster than the fused kernel with a mask."""
    heads, queries, width = query.shape
    group = heads // len(key)
    # Heads that share a key head stand one below the other, so that keys are not repeated.
    stacked = query.reshape(len(key), group * queries, width)
    bias = torch.zeros_like(visible, dtype=query.dtype).masked_fill_(~visible, float("-inf"))
    scores = torch.baddbmm(bias.repeat(group, 1), stacked, key.transpose(1, 2), alpha=scaling)
    weights = functional.dropout(scores.softmax(dim=-1), dropout)
    return torch.bmm(weights, value).view(heads, queries, width)


def _fused(query: Tensor, key: Tensor, value: Tensor, visible: Tensor, scaling: float, dropout: float) -> Tensor:
    return functional.scaled_dot_product_attention(
        query[None], key[None], value[None], visible, dropout, scale=scaling, enable_gqa=True
    )[0]


AttentionInterface.register(IMPLEMENTATION, tree_attention)
