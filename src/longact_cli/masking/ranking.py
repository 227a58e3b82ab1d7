"""From scores to updated rows: how many, counted within a matrix, a head or the whole model."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from longact_cli.masking.types import SaliencyMap, Scope, UpdateMask


@dataclass(frozen=True)
class Budget:
    """How many rows are updated.

    Attributes:
        update_ratio: Fraction of rows updated, in [0, 1]; with `mass`, at most that many.
        scope: Within what the rows are counted out.
        mass: Take the smallest set of rows that holds this share of the scores' sum, in (0, 1].
        head_dims: Rows per head of each projection; for scope `head`.
    """

    update_ratio: float
    scope: Scope = "matrix"
    mass: float | None = None
    head_dims: Mapping[str, int] | None = None

    def count(self, scores: Tensor) -> int:
        """Return how many of these rows are updated."""
        allowed = updated_count(self.update_ratio, len(scores))
        if self.mass is None:
            return allowed
        return min(allowed, mass_count(self.mass, scores))


def updated_count(update_ratio: float, rows: int) -> int:
    """Return floor(update_ratio x rows): how many rows of one matrix are updated.

    The small term undoes rounding of the product, e.g. 0.29 x 100 = 28.999999999999996.
    """
    return math.floor(update_ratio * rows + 1e-9)


def mass_count(mass: float, scores: Tensor) -> int:
    """Return the size of the smallest set of rows whose scores sum to `mass` of the total."""
    held = torch.sort(scores.double(), descending=True).values.cumsum(dim=0)
    if not len(held) or held[-1] <= 0:
        return 0
    return min(len(held), int((held < (mass - 1e-12) * held[-1]).sum()) + 1)


def rank_rows(scores: SaliencyMap, budget: Budget, *, highest: bool) -> UpdateMask:
    """Return the rows with the highest (or lowest) scores; ties go to the lower index.

    The number of rows follows from the budget alone, so that `highest` and its opposite update
    equally many.
    """
    mask = {name: torch.zeros_like(values, dtype=torch.bool) for name, values in scores.items()}
    for names, values in pools(scores, budget):
        order = torch.sort(values, descending=highest, stable=True).indices
        chosen = torch.zeros_like(values, dtype=torch.bool)
        chosen[order[: budget.count(values)]] = True
        write_pool(mask, names, chosen)
    return mask


Pool = tuple[tuple[str, int, int], ...]
"""Parts of matrices that are ranked together: (name, first row, one past the last)."""


def pools(scores: SaliencyMap, budget: Budget) -> Iterator[tuple[Pool, Tensor]]:
    """Yield the rows that are ranked together, with their scores in one vector."""
    if budget.scope == "global":
        parts = tuple((name, 0, len(values)) for name, values in scores.items())
        yield parts, torch.cat([values.flatten() for values in scores.values()])
        return
    for name, values in scores.items():
        size = len(values)
        if budget.scope == "head":
            size = (budget.head_dims or {}).get(name, size)
        for start in range(0, len(values), size):
            yield ((name, start, start + size),), values[start : start + size]


def write_pool(
    mask: Mapping[str, Tensor], parts: Iterable[tuple[str, int, int]], rows: Tensor
) -> None:
    """Put the rows chosen in a pool where they belong."""
    place = 0
    for name, start, stop in parts:
        mask[name][start:stop] = rows[place : place + stop - start]
        place += stop - start
