"""Which channels the rotary embedding turns together, and the energy of such a pair."""

import sys
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def rotary_channels(owner: nn.Module, head_dim: int) -> int | None:
    """Return how many channels per head are turned in pairs (i, i + half), or None.

    The model's own `rotate_half` is tried on four numbers: models that pair neighbours (i, i + 1),
    and models without a rotary embedding, give None.
    """
    rotate = getattr(sys.modules.get(type(owner).__module__), "rotate_half", None)
    if rotate is None or rotate(torch.arange(1.0, 5.0)).tolist() != [-3.0, -4.0, 1.0, 2.0]:
        return None
    config = getattr(owner, "config", None)
    settings = getattr(config, "rope_parameters", None) or {}
    of_layer = settings.get(getattr(owner, "layer_type", None), settings)
    fraction = of_layer.get("partial_rotary_factor", 1.0) if isinstance(of_layer, Mapping) else 1.0
    return int(head_dim * fraction)


def pair_magnitude(vectors: Tensor, rotary_dim: int) -> Tensor:
    """Replace both channels of a pair by sqrt(x_i^2 + x_j^2), which the embedding leaves as it is.

    Args:
        vectors: [..., head_dim].
        rotary_dim: Channels turned; the pairs are (i, i + rotary_dim / 2). Others stay.
    """
    half = rotary_dim // 2
    pair = torch.hypot(vectors[..., :half], vectors[..., half:rotary_dim])
    return torch.cat([pair, pair, vectors[..., rotary_dim:]], dim=-1)
