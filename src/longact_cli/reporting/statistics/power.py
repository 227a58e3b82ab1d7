"""How many questions or seeds a difference needs: power, needed number, smallest difference found.

Shares and differences lie in 0..1; tests are two-sided. `None` stands for "no number is enough".
"""

from collections.abc import Callable
from math import asin, comb, sin, sqrt
from typing import NamedTuple

from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from scipy.stats import nct
from scipy.stats import t as student

_MOST = 10_000_000
_MOST_SEEDS = 1000
_CERTAIN = 1000.0  # standard errors; the noncentral t is not computed that far out


class Aim(NamedTuple):
    """The level of a test and the power that is asked of it."""

    alpha: float = 0.05
    power: float = 0.8

    @property
    def z(self) -> float:
        """The normal quantile that a result must pass."""
        return float(ndtri(1 - self.alpha / 2))


def unpaired_power(n: float, p: float, delta: float, aim: Aim) -> float:
    """Return the power for p against p + delta with `n` questions on each side, none shared.

    Source: Cohen 1988, effect size h; equal to statsmodels' `NormalIndPower`.
    """
    shift = abs(_angle(p + delta) - _angle(p)) * sqrt(n / 2)
    return float(ndtr(shift - aim.z) + ndtr(-shift - aim.z))


def paired_power(n: float, discordance: float, delta: float, aim: Aim) -> float:
    """Return the power of McNemar's test with `n` questions that both sides answer.

    Args:
        n: Questions.
        discordance: Share of questions that exactly one side answers rightly, at least |delta|.
        delta: Difference of the two scores.
        aim: Level of the test.

    Source: Connor 1987, doi:10.2307/2531961.
    """
    spread = sqrt(max(discordance - delta**2, 0.0))
    shift = sqrt(n) * abs(delta)
    if spread == 0.0:
        return float(shift > aim.z * sqrt(discordance))
    edge = aim.z * sqrt(discordance)
    return float(ndtr((shift - edge) / spread) + ndtr((-shift - edge) / spread))


def discordance_of(p: float, delta: float, rho: float) -> float:
    """Return the share of questions on which p and p + delta differ at correlation `rho`.

    At most as correlated as two such scores can be, it is at least |delta|; below that `rho` is
    impossible.
    """
    q = p + delta
    return p * (1 - q) + q * (1 - p) - 2 * rho * sqrt(p * (1 - p) * q * (1 - q))


def needed(power_of: Callable[[float], float], aim: Aim) -> int | None:
    """Return the smallest number of questions with the power asked for."""
    if power_of(_MOST) < aim.power:
        return None
    low, high = 0, _MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle) >= aim.power else (middle, high)
    return high


def detectable(power_of: Callable[[float], float], aim: Aim, *, most: float) -> float | None:
    """Return the smallest difference in 0..most that is found with the power asked for."""
    if most <= 0.0 or power_of(most) < aim.power:
        return None
    return float(brentq(lambda delta: power_of(delta) - aim.power, 1e-9, most, xtol=1e-12))


def detectable_unpaired(n: float, p: float, aim: Aim) -> float | None:
    """Return the smallest gain over `p` that is found with `n` questions on each side."""
    angle = _angle(p) + _needed_shift(aim) / sqrt(n / 2)
    return None if angle > _angle(1.0) else sin(angle / 2) ** 2 - p


def seeds_power(seeds: int, delta: float, seed_sd: float, aim: Aim) -> float:
    """Return the power of the t test between two arms with `seeds` training seeds each.

    Args:
        seeds: Seeds per arm, at least 2.
        delta: Difference of the two methods' mean scores.
        seed_sd: Standard deviation of one method's score over its seeds, on the same questions.
        aim: Level of the test.

    Source: equal to statsmodels' `TTestIndPower`.
    """
    degrees = 2 * (seeds - 1)
    centre = abs(delta) / seed_sd * sqrt(seeds / 2)
    edge = float(student.ppf(1 - aim.alpha / 2, degrees))
    if centre > _CERTAIN:
        return 1.0
    return float(nct.sf(edge, degrees, centre) + nct.cdf(-edge, degrees, centre))


def needed_seeds(delta: float, seed_sd: float, aim: Aim) -> int | None:
    """Return the smallest number of seeds per arm with the power asked for."""
    for seeds in range(2, _MOST_SEEDS + 1):
        if seeds_power(seeds, delta, seed_sd, aim) >= aim.power:
            return seeds
    return None


def permutation_floor(seeds: int) -> float:
    """Return the smallest two-sided p-value that exchanging the seeds of two arms can give.

    2 / C(2 n, n): with three seeds per arm 0.1, whatever the scores.
    """
    return min(1.0, 2 / comb(2 * seeds, seeds))


def paired_floor(seeds: int) -> float:
    """Return the smallest two-sided p-value of swapping arms within each seed, 2 / 2^n."""
    return min(1.0, 2.0 ** (1 - seeds))


def _angle(share: float) -> float:
    return 2 * asin(sqrt(share))


def _needed_shift(aim: Aim) -> float:
    """Return the shift in standard errors that a normal test finds with the power asked for."""
    return float(
        brentq(lambda x: ndtr(x - aim.z) + ndtr(-x - aim.z) - aim.power, 0.0, 50.0, xtol=1e-13)
    )
