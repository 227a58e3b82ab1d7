"""Attention over a prompt and its completions side by side, registered with transformers.

Prompts attend causally to themselves. A completion attends to its prompt and to itself. Neither
block needs a mask on the CPU: a completion's two parts are computed one by one and merged by their
log-sum-exps, so that nothing of the size (prompt + completions)^2 exists. On other devices the
completions' block goes through one call with a mask of completions x (prompt + completions), or
through FlexAttention with a list of blocks.

Source: merging partial softmaxes, section 3 of arXiv 2310.01889 (Ring Attention) and its gradient.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention.flex_attention import BlockMask
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from longact_cli.training import flex_block
from longact_cli.training.decoding_attention import DecodingCache

NAME = "longact_shared_prefix"
_FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_FLASH_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class PrefixLayout(NamedTuple):
    """Where prompts and completions lie in [rows, prompt + slots x tokens].

    Attributes:
        prompt: Columns of the prompt part.
        slots: Completions per row.
        tokens: Columns of one completion.
        lengths: Prompt tokens of each row; the columns after them are padding.
        mask: Bool [rows, 1, slots x tokens, prompt + slots x tokens], True = visible; the same as
            blocks; None where the completions' block needs none.
    """

    prompt: int
    slots: int
    tokens: int
    lengths: tuple[int, ...]
    mask: Tensor | BlockMask | None


def needs_no_mask(device: torch.device) -> bool:
    """Return whether the completions' block is computed in parts there, without a mask."""
    return device.type == "cpu"


def use_prefix_attention(model: PreTrainedModel) -> None:
    """Make a model on SDPA understand `shared_prefix=PrefixLayout(...)`; all else stays as it is.

    It stays switched: gradient checkpointing runs layers again in the backward pass.
    """
    if model.config.get_text_config()._attn_implementation == NAME:
        return
    AttentionInterface.register(NAME, prefix_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **keywords: Any,
) -> tuple[Tensor, None]:
    """Attend as `shared_prefix` says; without it, as transformers' SDPA does.

    Args:
        module: The attention layer.
        query: [rows, heads, time, head_dim].
        key: [rows, key-value heads, time, head_dim].
        value: As `key`.
        attention_mask: Only used without `shared_prefix`.
        keywords: `shared_prefix`, the layout of a packed batch or the cache of rollouts being
            generated; `scaling` of the scores; the rest is transformers' own.

    Returns:
        [rows, time, heads, head_dim], and no attention weights.

    Raises:
        ValueError: Attention dropout is on.
    """
    shared_prefix = keywords.pop("shared_prefix", None)
    if shared_prefix is None:
        result: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, **keywords
        )
        return result
    if keywords.get("dropout"):
        raise ValueError("attention dropout is on; prompts are only shared without it")
    scaling = keywords.get("scaling")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if isinstance(shared_prefix, DecodingCache):
        layer = int(module.layer_idx)  # type: ignore[arg-type]
        if shared_prefix.prefilled:
            return shared_prefix.attend(layer, query, key=key, value=value, scale=scale), None
        shared_prefix.keep(layer, key, value)
        return _causal(module, query, key=key, value=value, scale=scale), None
    prompt = shared_prefix.prompt
    first = _causal(
        module,
        query[:, :, :prompt],
        key=key[:, :, :prompt],
        value=value[:, :, :prompt],
        scale=scale,
    )
    rest = attend_completions(
        query[:, :, prompt:], key, value=value, layout=shared_prefix, scale=scale
    )
    return torch.cat([first, rest.transpose(1, 2)], dim=1), None


def _causal(
    module: nn.Module, query: Tensor, *, key: Tensor, value: Tensor, scale: float
) -> Tensor:
    output: Tensor = sdpa_attention_forward(
        module, query, key, value, None, scaling=scale, is_causal=True
    )[0]
    return output


def attend_completions(
    query: Tensor, key: Tensor, *, value: Tensor, layout: PrefixLayout, scale: float
) -> Tensor:
    """Return what the completions see, [rows, heads, slots x tokens, head_dim].

    Args:
        query: Those of the completions, [rows, heads, slots x tokens, head_dim].
        key: [rows, key-value heads, prompt + slots x tokens, head_dim].
        value: As `key`.
        layout: Where they lie; its mask decides how the block is computed.
        scale: Of the scores.
    """
    if isinstance(layout.mask, Tensor):
        repeats = query.shape[1] // key.shape[1]
        return functional.scaled_dot_product_attention(
            query,
            repeat_kv(key, repeats),
            repeat_kv(value, repeats),
            attn_mask=layout.mask,
            scale=scale,
        )
    if torch.is_autocast_enabled(query.device.type):  # SDPA is cast, its kernel and Flex's are not
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = (x.to(dtype) for x in (query, key, value))
    if layout.mask is not None:
        return flex_block.attend(query, key, value=value, mask=layout.mask, scale=scale)
    output: Tensor = _SplitAttention.apply(  # type: ignore[no-untyped-call]
        query, key, value, layout, scale
    )
    return output


class _Part(NamedTuple):
    """Output and log-sum-exp, both [rows, heads, slots x tokens, ...], over some of the keys."""

    output: Tensor
    lse: Tensor


class _SplitAttention(torch.autograd.Function):
    """Completions over their prompt and over themselves, merged; exact in both directions.

    The backward kernel rebuilds a block's probabilities from the log-sum-exp that it is given: with
    the merged one they are those of the whole softmax, and the blocks' gradients add up.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: PrefixLayout, scale: float
    ) -> Tensor:
        shared = _over_prompts(query, key, value=value, layout=layout, scale=scale)
        own = _over_themselves(query, key, value=value, layout=layout, scale=scale)
        lse = torch.logaddexp(shared.lse, own.lse)
        weights = [torch.exp(part.lse - lse).unsqueeze(-1) for part in (shared, own)]
        output = (shared.output * weights[0] + own.output * weights[1]).to(query.dtype)
        ctx.save_for_backward(query, key, value, output, lse)
        ctx.layout, ctx.scale = layout, scale
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, lse = ctx.saved_tensors
        layout, scale = ctx.layout, ctx.scale
        key_gradient, value_gradient = torch.zeros_like(key), torch.zeros_like(value)
        query_gradient = torch.empty_like(query)
        merged = _Part(output, lse)
        prompt = layout.prompt
        for row, length in enumerate(layout.lengths):
            folded = [_fold(x[row : row + 1], key.shape[1]) for x in (gradient, query, output, lse)]
            grads = _FLASH_BACKWARD(
                folded[0],
                folded[1],
                key[row : row + 1, :, :length],
                value[row : row + 1, :, :length],
                folded[2],
                _as_kernel(folded[3]),
                0.0,
                False,
                scale=scale,
            )
            query_gradient[row] = grads[0].reshape_as(query[row])
            key_gradient[row, :, :length] = grads[1][0]
            value_gradient[row, :, :length] = grads[2][0]
        own = _own_backward(gradient, query, key=key, value=value, merged=merged, ctx=ctx)
        query_gradient += own[0]
        key_gradient[:, :, prompt:] = own[1]
        value_gradient[:, :, prompt:] = own[2]
        return query_gradient, key_gradient, value_gradient, None, None


def _over_prompts(
    query: Tensor, key: Tensor, *, value: Tensor, layout: PrefixLayout, scale: float
) -> _Part:
    """Attend to the prompts, row by row without their padding; query heads share their keys."""
    outputs, sums = [], []
    for row, length in enumerate(layout.lengths):
        output, lse = _FLASH(
            _fold(query[row : row + 1], key.shape[1]),
            key[row : row + 1, :, :length],
            value[row : row + 1, :, :length],
            0.0,
            False,
            scale=scale,
        )
        outputs.append(output.reshape(1, *query.shape[1:]))
        sums.append(lse.reshape(1, *query.shape[1:3]))
    return _Part(torch.cat(outputs), torch.cat(sums))


def _over_themselves(
    query: Tensor, key: Tensor, *, value: Tensor, layout: PrefixLayout, scale: float
) -> _Part:
    repeats = query.shape[1] // key.shape[1]
    own = [repeat_kv(x[:, :, layout.prompt :], repeats) for x in (key, value)]
    output, lse = _FLASH(*(_apart(x, layout) for x in (query, *own)), 0.0, True, scale=scale)
    return _Part(_together(output, layout), _together(lse, layout))


def _own_backward(
    gradient: Tensor, query: Tensor, *, key: Tensor, value: Tensor, merged: _Part, ctx: Any
) -> tuple[Tensor, Tensor, Tensor]:
    layout = ctx.layout
    repeats = query.shape[1] // key.shape[1]
    own = [repeat_kv(x[:, :, layout.prompt :], repeats) for x in (key, value)]
    grads = _FLASH_BACKWARD(
        *(_apart(x, layout) for x in (gradient, query, *own, merged.output)),
        _as_kernel(_apart(merged.lse, layout)),
        0.0,
        True,
        scale=ctx.scale,
    )
    queries, keys, values = (_together(x, layout) for x in grads)
    if repeats > 1:
        keys, values = (x.reshape(len(x), -1, repeats, *x.shape[2:]).sum(2) for x in (keys, values))
    return queries, keys, values


def _fold(heads: Tensor, key_heads: int) -> Tensor:
    """Return [1, heads, time, ...] as [1, key-value heads, repeats x time, ...]."""
    return heads.reshape(1, key_heads, -1, *heads.shape[3:])


def _apart(joined: Tensor, layout: PrefixLayout) -> Tensor:
    """Return [rows, heads, slots x tokens, ...] as [rows x slots, heads, tokens, ...]."""
    split = joined.reshape(*joined.shape[:2], layout.slots, layout.tokens, *joined.shape[3:])
    return split.transpose(1, 2).flatten(0, 1)


def _together(apart: Tensor, layout: PrefixLayout) -> Tensor:
    """Undo `_apart`."""
    return apart.reshape(-1, layout.slots, *apart.shape[1:]).transpose(1, 2).flatten(2, 3)


def _as_kernel(lse: Tensor) -> Tensor:
    """Return log-sum-exps [rows, heads, time] in the kernel's order in memory."""
    return lse.transpose(1, 2).contiguous().transpose(1, 2)
