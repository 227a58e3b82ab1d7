"""What a mask strategy is, and the arithmetic all of them share."""

import hashlib
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from longact_cli.masking.types import SaliencyMap, UpdateMask
from longact_cli.registry import Registry

Select = Callable[[SaliencyMap, float, Generator | None], UpdateMask]


class MaskStrategy(NamedTuple):
    """A way to choose the updated rows.

    Attributes:
        select: `(saliency, update_ratio, generator) -> update mask`.
        needs_saliency: Whether the scores are read; without, the probe pass is skipped.
    """

    select: Select
    needs_saliency: bool


STRATEGIES: Registry[MaskStrategy] = Registry("mask.strategy")


def updated_count(update_ratio: float, rows: int) -> int:
    """Return floor(update_ratio x rows): how many rows of one matrix are updated.

    The small term undoes rounding of the product, e.g. 0.29 x 100 = 28.999999999999996.
    """
    return math.floor(update_ratio * rows + 1e-9)


def rows_of(indices: Tensor, rows: int) -> Tensor:
    """Return a bool mask [rows] that is True at `indices`."""
    updated = torch.zeros(rows, dtype=torch.bool, device=indices.device)
    updated[indices] = True
    return updated


def step_generator(seed: int, step: int) -> Generator:
    """Return the generator of one optimizer step: a function of (seed, step) without state.

    A resumed run therefore draws the same masks as an uninterrupted one.
    """
    digest = hashlib.sha256(f"update mask {seed} {step}".encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
