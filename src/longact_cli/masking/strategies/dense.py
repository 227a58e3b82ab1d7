"""Update every row: training without a mask, the reference of every comparison."""

import torch
from torch import Generator

from longact_cli.masking.ranking import Budget
from longact_cli.masking.strategies.base import STRATEGIES, MaskStrategy
from longact_cli.masking.types import SaliencyMap, UpdateMask


def select(scores: SaliencyMap, budget: Budget, generator: Generator | None = None) -> UpdateMask:
    """Return all rows, whatever the budget."""
    return {name: torch.ones_like(values, dtype=torch.bool) for name, values in scores.items()}


STRATEGIES.register("dense")(MaskStrategy(select, source="none"))
