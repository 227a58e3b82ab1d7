"""What a mask strategy is, and the randomness that strategies share."""

import hashlib
from collections.abc import Callable
from typing import Literal, NamedTuple

from torch import Generator

from longact_cli.masking.ranking import Budget
from longact_cli.masking.types import SaliencyMap, UpdateMask
from longact_cli.registry import Registry

Select = Callable[[SaliencyMap, Budget, Generator | None], UpdateMask]
Source = Literal["none", "activation", "gradient", "weight", "wanda", "file"]


class MaskStrategy(NamedTuple):
    """A way to choose the updated rows.

    Attributes:
        select: `(scores, budget, generator) -> update mask`.
        source: What the scores are made of; `none` reads only their shapes.
    """

    select: Select
    source: Source


STRATEGIES: Registry[MaskStrategy] = Registry("mask.strategy")


def step_generator(seed: int, step: int) -> Generator:
    """Return the generator of one optimizer step: a function of (seed, step) without state.

    A resumed run therefore draws the same masks as an uninterrupted one.
    """
    digest = hashlib.sha256(f"update mask {seed} {step}".encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
