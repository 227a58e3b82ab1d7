"""Update every row: training without a mask, the reference of every comparison."""

import torch
from torch import Generator

from longact_cli.masking.strategies.base import STRATEGIES, MaskStrategy
from longact_cli.masking.types import SaliencyMap, UpdateMask


def select(
    saliency: SaliencyMap, update_ratio: float, generator: Generator | None = None
) -> UpdateMask:
    """Return all rows, whatever the ratio."""
    return {name: torch.ones_like(scores, dtype=torch.bool) for name, scores in saliency.items()}


STRATEGIES.register("dense")(MaskStrategy(select, needs_saliency=False))
