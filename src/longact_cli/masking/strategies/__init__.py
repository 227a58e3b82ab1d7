"""Mask strategies: saliency and an update ratio in, an update mask out. One file each."""

from torch import Generator

from longact_cli.masking.strategies import dense, frozen, lowest, random, salient
from longact_cli.masking.strategies.base import STRATEGIES, MaskStrategy, step_generator
from longact_cli.masking.types import SaliencyMap, UpdateMask

__all__ = ["STRATEGIES", "MaskStrategy", "select_rows", "step_generator"]

_FILES = (dense, frozen, lowest, random, salient)  # importing a file registers its strategy


def select_rows(
    strategy: str,
    saliency: SaliencyMap,
    update_ratio: float,
    generator: Generator | None = None,
) -> UpdateMask:
    """Return the update mask that a strategy makes of a saliency map.

    Args:
        strategy: Registered name, e.g. `salient`.
        saliency: Score per row and parameter; strategies that need none use its shapes.
        update_ratio: Fraction of rows updated, in [0, 1].
        generator: Source of randomness; required by `random` only.

    Raises:
        UnknownNameError: No strategy has that name.
    """
    return STRATEGIES.get(strategy).select(saliency, update_ratio, generator)
