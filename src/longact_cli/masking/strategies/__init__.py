"""Mask strategies: one file each, from scores and a budget to an update mask."""

from torch import Generator

from longact_cli.masking.ranking import Budget
from longact_cli.masking.strategies import (
    dense,
    file,
    frozen,
    gradient,
    lowest,
    random,
    random_head_matched,
    salient,
    wanda,
    weight,
)
from longact_cli.masking.strategies.base import STRATEGIES, MaskStrategy, Source, step_generator
from longact_cli.masking.types import SaliencyMap, UpdateMask

__all__ = ["STRATEGIES", "Budget", "MaskStrategy", "Source", "select_rows", "step_generator"]

# Importing a file registers its strategy.
_FILES = (
    dense,
    file,
    frozen,
    gradient,
    lowest,
    random,
    random_head_matched,
    salient,
    wanda,
    weight,
)


def select_rows(
    strategy: str,
    saliency: SaliencyMap,
    budget: Budget | float,
    generator: Generator | None = None,
) -> UpdateMask:
    """Return the update mask that a strategy makes of a saliency map.

    Args:
        strategy: Registered name, e.g. `salient`.
        saliency: Score per row and projection; strategies that need none use its shapes.
        budget: How many rows; a number is the fraction of rows updated, per matrix, in [0, 1].
        generator: Source of randomness; required by the random strategies only.

    Raises:
        UnknownNameError: No strategy has that name.
    """
    chosen = budget if isinstance(budget, Budget) else Budget(budget)
    return STRATEGIES.get(strategy).select(saliency, chosen, generator)
