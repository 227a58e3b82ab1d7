"""Update no row: what the other parameters alone achieve."""

import torch
from torch import Generator

from longact_cli.masking.ranking import Budget
from longact_cli.masking.strategies.base import STRATEGIES, MaskStrategy
from longact_cli.masking.types import SaliencyMap, UpdateMask


def select(scores: SaliencyMap, budget: Budget, generator: Generator | None = None) -> UpdateMask:
    """Return no row, whatever the budget."""
    return {name: torch.zeros_like(values, dtype=torch.bool) for name, values in scores.items()}


STRATEGIES.register("frozen")(MaskStrategy(select, source="none"))
