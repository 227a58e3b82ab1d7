"""Tests of two checkpoints on the same questions: McNemar, and random signs. Two-sided p-values."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr

from longact_cli.reporting.statistics.resampling import Floats

EXACT_UNITS = 14
"""Up to this many units that differ, all 2^units signs are tried."""
RANDOM_SIGNS = 9999
_RELATIVE_TIE = 1e-5
_CHUNK_NUMBERS = 1 << 22


def mcnemar_p(only_left: int, only_right: int, *, mid: bool = False) -> float:
    """Return the p-value of McNemar's exact test; 1 where no question separates the two.

    Args:
        only_left: Questions that only the left side answers rightly.
        only_right: Questions that only the right side answers rightly.
        mid: Count the observed split by half (mid-p): less conservative, no longer exact.

    Source: Fagerland, Lydersen and Laake 2013, doi:10.1186/1471-2288-13-91.
    """
    n, fewer = only_left + only_right, min(only_left, only_right)
    if n == 0:
        return 1.0
    p = 2.0 * float(bdtr(fewer, n, 0.5))
    if mid:
        from scipy.stats import binom  # takes half a second to import

        p -= float(binom.pmf(fewer, n, 0.5))
    return min(1.0, p)


def sign_flip_p(units: Floats, *, rng: np.random.Generator) -> float:
    """Return the p-value of a sum of differences under random signs.

    If both sides are alike, each unit's difference is as likely to have the other sign. All signs
    are tried for up to `EXACT_UNITS` units that differ; else `RANDOM_SIGNS` draws and the data
    themselves are counted, so that p is never 0.

    Args:
        units: One weighted difference per question or, where questions share a document, per
            document, [units].
        rng: Only its next integer is used.

    Source: Dror et al. 2018, doi:10.18653/v1/P18-1128; the added one, Phipson and Smyth 2010,
    doi:10.2202/1544-6115.1585.
    """
    moving = units[units != 0.0]
    key = int(rng.integers(2**62))
    if not len(moving):
        return 1.0
    observed = abs(float(moving.sum())) * (1 - _RELATIVE_TIE)
    if len(moving) <= EXACT_UNITS:
        return float(np.mean(np.abs(_all_signs(len(moving)) @ moving) >= observed))
    extreme = 0
    chunk = max(1, _CHUNK_NUMBERS // len(moving))
    for start in range(0, RANDOM_SIGNS, chunk):
        signs = _random_signs(key + start, min(chunk, RANDOM_SIGNS - start), len(moving))
        extreme += int((np.abs(signs @ moving.astype(np.float32)) >= observed).sum())
    return (extreme + 1) / (RANDOM_SIGNS + 1)


@lru_cache(maxsize=4)
def _all_signs(n: int) -> NDArray[np.float32]:
    bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    return (1 - 2 * bits).astype(np.float32)


@lru_cache(maxsize=4)
def _random_signs(key: int, n: int, units: int) -> NDArray[np.float32]:
    signs = np.random.default_rng(key).integers(2, size=(n, units), dtype=np.int8)
    return (1 - 2 * signs).astype(np.float32)
