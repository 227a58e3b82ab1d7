"""How concentrated a set of numbers is, and how much two sets of rows overlap. Pure numpy."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import hypergeom

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


def gini(values: Floats) -> float:
    """Return the Gini coefficient of values >= 0: 0 = all equal, (n - 1) / n = one holds all.

    G = sum over i of (2 i - n - 1) x_(i) / (n sum x), with x sorted upwards and i from 1; half the
    mean absolute difference of two values, relative to the mean. NaN where all are 0.
    """
    total = float(values.sum())
    if not total:
        return float("nan")
    n = len(values)
    weights = 2 * np.arange(1, n + 1) - n - 1
    return float((weights * np.sort(values)).sum() / (n * total))


def excess_kurtosis(sums: Floats, n: int) -> float:
    """Return m4 / m2^2 - 3 (0 for a normal distribution) from power sums; NaN without spread.

    No correction for small samples: `scipy.stats.kurtosis(x, fisher=True, bias=True)`.

    Args:
        sums: Sums of x, x^2, x^3 and x^4, [4].
        n: Number of values.
    """
    mean, second, third, fourth = (float(value) / n for value in sums)
    variance = second - mean**2
    if not variance > 1e-12 * max(second, 1e-300):
        return float("nan")
    central = fourth - 4 * mean * third + 6 * mean**2 * second - 3 * mean**4
    return central / variance**2 - 3.0


def top_mass(values: Floats, shares: Sequence[float]) -> Floats:
    """Return what share of the sum the largest values hold, for each share of their number, 0..1.

    Linear between whole numbers of values, so that 1 % of 16 values has an answer too.
    """
    held = np.concatenate([[0.0], np.cumsum(np.sort(values)[::-1])])
    if not held[-1]:
        return np.full(len(shares), np.nan)
    places = np.asarray(shares, dtype=np.float64) * len(values)
    mass: Floats = np.interp(places, np.arange(len(values) + 1), held) / held[-1]
    return mass


def share_above_median(values: Floats, factors: Sequence[float]) -> tuple[float, ...]:
    """Return the share of values above each factor times their median, 0..1; exact."""
    middle = float(np.median(values))
    return tuple(float((values > factor * middle).mean()) for factor in factors)


def jaccard(first: Bools, second: Bools) -> float:
    """Return |A and B| / |A or B| of two sets, 0..1; NaN where both are empty."""
    either = int((first | second).sum())
    return int((first & second).sum()) / either if either else float("nan")


@lru_cache(maxsize=1 << 16)
def expected_jaccard(rows: int, first: int, second: int) -> float:
    """Return the mean Jaccard overlap of two random sets of these sizes out of `rows`.

    Exact: the shared rows X are hypergeometric, and the overlap is X / (first + second - X). For
    two large sets of k out of n rows it is close to k / (2 n - k). NaN where both are empty.
    """
    if not first and not second:
        return float("nan")
    shared = np.arange(max(0, first + second - rows), min(first, second) + 1)
    chance = hypergeom(rows, first, second).pmf(shared)
    return float((chance * shared / (first + second - shared)).sum())
