"""Update rows drawn at random: the control that keeps the ratio and drops the ranking."""

import torch
from torch import Generator, Tensor

from longact_cli.errors import ConfigError
from longact_cli.masking.ranking import Budget, pools, write_pool
from longact_cli.masking.strategies.base import STRATEGIES, MaskStrategy
from longact_cli.masking.types import SaliencyMap, UpdateMask


def select(scores: SaliencyMap, budget: Budget, generator: Generator | None = None) -> UpdateMask:
    """Return rows drawn without replacement, anew for each matrix (or head, or model).

    Raises:
        ConfigError: No generator was passed.
    """
    mask = {name: torch.zeros_like(values, dtype=torch.bool) for name, values in scores.items()}
    for parts, values in pools(scores, budget):
        write_pool(mask, parts, draw(len(values), budget.count(values), generator))
    return mask


def draw(rows: int, count: int, generator: Generator | None) -> Tensor:
    """Return a bool mask [rows] with `count` rows drawn without replacement.

    Raises:
        ConfigError: No generator was passed.
    """
    if generator is None:
        raise ConfigError("random masks need a generator; pass step_generator(seed, step)")
    chosen = torch.zeros(rows, dtype=torch.bool)
    chosen[torch.randperm(rows, generator=generator)[:count]] = True
    return chosen


STRATEGIES.register("random")(MaskStrategy(select, source="none"))
