"""Layers that make query, key and value at once, and where each lies in their output."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from longact_cli.masking.types import Kind


class FusedLayout(NamedTuple):
    """One layer for several vectors.

    Attributes:
        attribute: The layer's name in its owner.
        channels: First channel and one past the last, of each vector in the layer's output.
    """

    attribute: str
    channels: Mapping[Kind, tuple[int, int]]


def find_fused(owner: nn.Module) -> FusedLayout | None:
    """Return the layout of a fused projection that lies as [q|k|v], or None.

    A `qkv_proj` counts where the module also owns `o_proj` and its sizes are heads x head_dim +
    2 x key-value heads x head_dim (Phi-3). A `c_attn` counts where it is a Conv1D three times as
    wide as the model and the module owns `c_proj` (GPT-2). Other fused layers interleave their
    heads and are not taken for one of these.
    """
    return _phi_layout(owner) or _gpt2_layout(owner)


def output_channels(layer: nn.Module) -> int:
    """Return how many channels a linear layer makes, adapters and Conv1D included."""
    weight, transposed = base_weight(layer)
    return int(weight.shape[1 if transposed else 0])


def _phi_layout(owner: nn.Module) -> FusedLayout | None:
    layer, config = getattr(owner, "qkv_proj", None), getattr(owner, "config", None)
    heads = getattr(config, "num_attention_heads", None)
    groups = getattr(config, "num_key_value_heads", None)
    head_dim = getattr(owner, "head_dim", None)
    if not (isinstance(layer, nn.Module) and isinstance(getattr(owner, "o_proj", None), nn.Module)):
        return None
    if not (isinstance(heads, int) and isinstance(groups, int) and isinstance(head_dim, int)):
        return None
    query, key = heads * head_dim, groups * head_dim
    if output_channels(layer) != query + 2 * key:
        return None
    return FusedLayout("qkv_proj", _consecutive(query, key))


def _gpt2_layout(owner: nn.Module) -> FusedLayout | None:
    layer = getattr(owner, "c_attn", None)
    base = getattr(layer, "base_layer", layer)
    width = getattr(base, "nx", None)
    if not isinstance(layer, nn.Module) or not isinstance(width, int):
        return None
    if not hasattr(owner, "c_proj") or output_channels(layer) != 3 * width:
        return None
    return FusedLayout("c_attn", _consecutive(width, width))


def _consecutive(query: int, key: int) -> Mapping[Kind, tuple[int, int]]:
    return {
        "q": (0, query),
        "k": (query, query + key),
        "v": (query + key, query + 2 * key),
    }


def input_channels(layer: nn.Module) -> int:
    """Return how many features a linear layer reads, adapters and Conv1D included."""
    weight, transposed = base_weight(layer)
    return int(weight.shape[0 if transposed else 1])


def base_weight(layer: nn.Module) -> tuple[Tensor, bool]:
    """Return a linear layer's own weight, and whether it is laid out as (in, out)."""
    base = getattr(layer, "base_layer", layer)
    weight = base.weight
    assert isinstance(weight, Tensor)  # a layer without one is not taken for a projection
    return weight, hasattr(base, "nf")
