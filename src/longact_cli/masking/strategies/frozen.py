"""Update no row: what the other parameters alone achieve."""

import torch
from torch import Generator

from longact_cli.masking.strategies.base import STRATEGIES, MaskStrategy
from longact_cli.masking.types import SaliencyMap, UpdateMask


def select(
    saliency: SaliencyMap, update_ratio: float, generator: Generator | None = None
) -> UpdateMask:
    """Return no row, whatever the ratio."""
    return {name: torch.zeros_like(scores, dtype=torch.bool) for name, scores in saliency.items()}


STRATEGIES.register("frozen")(MaskStrategy(select, needs_saliency=False))
