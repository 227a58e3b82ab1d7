"""The completions' block of attention in torch's FlexAttention: computed by blocks, without a mask.

A completion sees its prompt and itself. Of the blocks of 128 x 128 scores some are invisible and
never computed, some wholly visible and computed without a mask, and only the rest is masked, score
by score. Which is which follows from the lengths, so that nothing of the size completions x
(prompt + completions) exists.

Source: arXiv 2412.05496 (FlexAttention).
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

BLOCK = 128
_KERNELS = 64
"""Kernels that may be compiled in a process; torch's own limit of 8 counts every kind of batch."""


def block_mask(lengths: Tensor, *, prompt: int, slots: int, tokens: int) -> BlockMask:
    """Return what the completions of each row see, [rows, 1, slots x tokens, prompt + same].

    Sizes enter as tensors, which a compiled kernel takes as inputs: others compile nothing anew.

    Args:
        lengths: Prompt tokens of each row, at least 1; the columns after them are padding.
        prompt: Columns of the prompt part.
        slots: Completions per row.
        tokens: Columns of one completion.
    """
    keys = prompt + slots * tokens
    last = torch.arange(prompt, keys, device=lengths.device)
    first = last - (last - prompt) % tokens

    def visible(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key < lengths[row]) | ((key >= first[query]) & (key <= last[query]))

    some, whole = _visible_blocks(lengths, keys=keys, first=first, last=last)
    return BlockMask.from_kv_blocks(
        *_listed(some & ~whole),
        *_listed(whole),
        BLOCK_SIZE=BLOCK,
        mask_mod=visible,
        seq_lengths=(len(last), keys),
    )


def attend(query: Tensor, key: Tensor, *, value: Tensor, mask: BlockMask, scale: float) -> Tensor:
    """Return what the queries see, [rows, heads, queries, head_dim].

    Args:
        query: [rows, heads, queries, head_dim]; all three of one dtype.
        key: [rows, key-value heads, keys, head_dim].
        value: As `key`.
        mask: Of these rows, queries and keys.
        scale: Of the scores.
    """
    with (
        torch.autocast(query.device.type, enabled=False),
        torch._dynamo.config.patch(recompile_limit=_KERNELS),
    ):
        return kernel()(query, key, value, block_mask=mask, scale=scale, enable_gqa=True)


@functools.cache
def kernel() -> Callable[..., Tensor]:
    """Return the compiled kernel: of the first sizes it meets, then one for all sizes.

    It does not fall back to torch's own evaluation, which holds all scores in memory.
    """
    return torch.compile(flex_attention, fullgraph=True)


def _visible_blocks(
    lengths: Tensor, *, keys: int, first: Tensor, last: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the blocks with a visible score and those with no other, [rows, queries, keys].

    Args:
        lengths: Prompt tokens of each row.
        keys: Columns of prompt and completions.
        first: The first key of its own completion that a query sees; never falls.
        last: The last one, which is its own.
    """
    queries = len(last)
    start, end = (edge.unsqueeze(1) for edge in _edges(queries, device=lengths.device))
    key_start, key_end = _edges(keys, device=lengths.device)
    prompt = lengths[:, None, None]
    some = (key_start < prompt) | ((key_end >= first[start]) & (key_start <= last[end]))
    beyond = torch.maximum(key_start, prompt)
    whole = (key_end < prompt) | ((beyond >= first[end]) & (key_end <= last[start]))
    cut_off = start + BLOCK > queries  # a block without its last rows is not whole
    return some, whole & ~cut_off


def _edges(length: int, *, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the first and the last place of each block."""
    start = torch.arange(0, length, BLOCK, device=device)
    return start, (start + BLOCK - 1).clamp(max=length - 1)


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many blocks are set per row of blocks, and their places before all others."""
    order = blocks.int().argsort(dim=-1, descending=True, stable=True).int()
    return blocks.sum(dim=-1, dtype=torch.int32).unsqueeze(1), order.unsqueeze(1)
