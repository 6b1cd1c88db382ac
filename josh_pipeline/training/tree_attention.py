"""Attention in which a token of a packed sequence sees its own path only.

It is registered with transformers as the attention implementation ``tree``, which every model takes that
passes its keyword arguments on to the attention function.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface

from josh_pipeline.core.errors import UserError

IMPLEMENTATION = "tree"
"""Name to load a model with: ``attn_implementation=IMPLEMENTATION``."""


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
        tree: of ``packing.visible_blocks``.

    Raises:
        UserError: the model's attention is of a kind that is not computed here.
    """
    if sliding_window is not None or softcap is not None or s_aux is not None or not tree:
        raise UserError(
            f"The attention of {type(module).__name__} cannot be packed: set training.packed to false."
        )
    attend = _fused if query.is_cuda else _unfused
    parts, start = [], 0
    for keys, visible in tree:
        part = query[0, :, start : start + len(visible)]
        parts.append(attend(part, key[0][:, keys], value[0][:, keys], visible, scaling, dropout))
        start += len(visible)
    return torch.cat(parts, dim=1).transpose(0, 1)[None].contiguous(), None


def _unfused(
    query: Tensor, key: Tensor, value: Tensor, visible: Tensor, scaling: float, dropout: float
) -> Tensor:
    """Attend with two matrix products, which on CPU is faster than the fused kernel with a mask."""
    heads, queries, width = query.shape
    group = heads // len(key)
    # Heads that share a key head stand one below the other, so that keys are not repeated.
    stacked = query.reshape(len(key), group * queries, width)
    bias = torch.zeros_like(visible, dtype=query.dtype).masked_fill_(~visible, float("-inf"))
    scores = torch.baddbmm(bias.repeat(group, 1), stacked, key.transpose(1, 2), alpha=scaling)
    weights = functional.dropout(scores.softmax(dim=-1), dropout)
    return torch.bmm(weights, value).view(heads, queries, width)


def _fused(
    query: Tensor, key: Tensor, value: Tensor, visible: Tensor, scaling: float, dropout: float
) -> Tensor:
    return functional.scaled_dot_product_attention(
        query[None], key[None], value[None], visible, dropout, scale=scaling, enable_gqa=True
    )[0]


AttentionInterface.register(IMPLEMENTATION, tree_attention)
