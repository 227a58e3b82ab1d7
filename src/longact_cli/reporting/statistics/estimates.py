"""Scores with their uncertainty: macro means, differences and 95 % intervals. Pure numpy and scipy.

Scores are `[seeds, questions]`, each in 0..1, higher is better; NaN is an answer that failed or was
not asked for, and is left out rather than counted as 0. `strata` gives each question the number of
its (task, context length); a macro mean weighs all strata equally. Within a stratum the seeds are
averaged per question first, then the questions.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

LEVEL = 0.95
RESAMPLES = 2000
_CHUNK_NUMBERS = 1 << 21

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Interval(NamedTuple):
    """A confidence interval, in the unit of its estimate."""

    low: float
    high: float


class Estimate(NamedTuple):
    """A number with its interval and what it rests on.

    `n_questions` and `n_seeds` are what entered; `n_failed` counts answers (for a difference: pairs
    of answers) that were left out because an answer failed.
    """

    value: float
    low: float
    high: float
    n_questions: int
    n_seeds: int
    n_failed: int

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval."""
        return self.low > 0.0 or self.high < 0.0


def wilson_interval(successes: float, n: int) -> Interval:
    """Return the 95 % score interval of a proportion.

    Source: Wilson 1927, doi:10.1080/01621459.1927.10502953; equal to scipy's
    `binomtest(...).proportion_ci(method="wilson")`.
    """
    z = float(ndtri(0.5 + LEVEL / 2))
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(max(0.0, float(centre - half)), min(1.0, float(centre + half)))


def macro_mean(scores: Floats, strata: Ints) -> float:
    """Return the mean over strata of the mean over their questions; NaN if a stratum is empty."""
    means = [float(np.mean(block)) if block.size else np.nan for block in _blocks(scores, strata)]
    return float(np.mean(means)) if means else float("nan")


def score_estimate(scores: Floats, strata: Ints, *, rng: np.random.Generator) -> Estimate:
    """Return the macro mean with the bootstrap interval over seeds and questions.

    All numbers are NaN where a stratum has no answer. Where the resampled values never vary (every
    answer right, or every answer wrong) the bootstrap has no width; the interval is then the
    stratified Wilson interval over questions.
    """
    value = macro_mean(scores, strata)
    interval = _percentiles(value, _draws(scores, None, strata, rng=rng))
    if interval.low == interval.high:
        interval = _stratified_wilson(scores, strata)
    return _estimate(value, interval, scores, n_failed=int(np.isnan(scores).sum()))


def difference_estimate(
    left: Floats, right: Floats, strata: Ints, *, same_seeds: bool, rng: np.random.Generator
) -> Estimate:
    """Return macro mean(left) - macro mean(right) on shared questions; positive: left is better.

    NaN where a stratum has no pair. Columns of both are the same questions; resampling draws the
    same questions for both.

    Args:
        left: Scores, [seeds, questions].
        right: Scores, [seeds, questions].
        strata: Stratum of each question, [questions].
        same_seeds: Whether row i of both has the same seed. Then answers are paired by seed and
            question, and a failed answer takes its partner with it. Otherwise each side is averaged
            over its own seeds, drawn independently, and a question is left out where either side
            has no answer at all.
        rng: Source of the resampling.

    Source: paired differences on shared questions, Miller 2024 (arXiv 2411.00640).
    """
    if same_seeds:
        delta = left - right
        value, draws = macro_mean(delta, strata), _draws(delta, None, strata, rng=rng)
        failed = int(np.isnan(delta).sum())
        return _estimate(value, _percentiles(value, draws), delta, n_failed=failed)
    delta = _question_means(left)[None] - _question_means(right)[None]
    value, draws = macro_mean(delta, strata), _draws(left, right, strata, rng=rng)
    failed = int(np.isnan(left).sum() + np.isnan(right).sum())
    estimate = _estimate(value, _percentiles(value, draws), delta, n_failed=failed)
    return estimate._replace(n_seeds=min(len(left), len(right)))


def _estimate(value: float, interval: Interval, scores: Floats, *, n_failed: int) -> Estimate:
    questions = int((~np.isnan(scores)).any(axis=0).sum())
    return Estimate(value, *interval, questions, len(scores), n_failed)


def _question_means(scores: Floats) -> Floats:
    """Average over seeds, [questions]; NaN where no seed has an answer."""
    valid = ~np.isnan(scores)
    counts = valid.sum(axis=0)
    sums: Floats = np.where(valid, scores, 0.0).sum(axis=0)
    means: Floats = np.full(len(counts), np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def _blocks(scores: Floats, strata: Ints) -> Iterator[Floats]:
    """Yield the question means of each stratum without the NaNs."""
    means = _question_means(scores)
    for stratum in np.unique(strata):
        block = means[strata == stratum]
        yield block[~np.isnan(block)]


def _stratified_wilson(scores: Floats, strata: Ints) -> Interval:
    """Combine Wilson intervals of the strata by the recovered variances of their limits.

    Source: Zou and Donner 2008, doi:10.1002/sim.3095, with equal weights.
    """
    means, below, above = [], [], []
    for block in _blocks(scores, strata):
        p, limits = float(block.mean()), wilson_interval(float(block.sum()), block.size)
        means.append(p)
        below.append(p - limits.low)
        above.append(limits.high - p)
    value, k = float(np.mean(means)), len(means)
    low, high = np.linalg.norm(below) / k, np.linalg.norm(above) / k
    return Interval(max(0.0, value - float(low)), min(1.0, value + float(high)))


def _percentiles(value: float, draws: Floats) -> Interval:
    if np.isnan(value):
        return Interval(value, value)
    tails = np.nanquantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(tails[0]), float(tails[1]))


def _draws(left: Floats, right: Floats | None, strata: Ints, *, rng: np.random.Generator) -> Floats:
    """Return macro means of `left` (minus `right`) under crossed resampling, [RESAMPLES].

    Seeds and questions are drawn with replacement, independently of each other, questions within
    their stratum. One seed stays as it is: the interval is then over questions only.

    Source: the pigeonhole bootstrap, Owen 2007, doi:10.1214/07-AOAS122; slightly conservative.
    """
    order = np.argsort(strata, kind="stable")
    sizes = np.unique(strata, return_counts=True)[1]
    left = left[:, order]
    right = None if right is None else right[:, order]
    chunk = max(1, _CHUNK_NUMBERS // max(1, left.shape[1]))
    parts = []
    for start in range(0, RESAMPLES, chunk):
        n = min(chunk, RESAMPLES - start)
        values = _resampled_means(left, n, rng)
        if right is not None:
            values = values - _resampled_means(right, n, rng)
        counts = [rng.multinomial(size, np.full(size, 1 / size), size=n) for size in sizes]
        parts.append(_weighted_macro_mean(values, counts))
    return np.concatenate(parts)


def _resampled_means(scores: Floats, n: int, rng: np.random.Generator) -> Floats:
    """Return question means over `n` draws of the seeds, [n, questions]; NaN without an answer."""
    seeds = len(scores)
    weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=n).astype(np.float64)
    valid = ~np.isnan(scores)
    counts = weights @ valid.astype(np.float64)
    sums = weights @ np.where(valid, scores, 0.0)
    means: Floats = np.full(sums.shape, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def _weighted_macro_mean(values: Floats, counts: list[Ints]) -> Floats:
    """Average each stratum's columns of `values` by its draw counts, then the strata; [n]."""
    means, start = [], 0
    for weights in counts:
        block = values[:, start : start + weights.shape[1]]
        start += weights.shape[1]
        kept = weights * ~np.isnan(block)
        total = kept.sum(axis=1)
        sums = (kept * np.nan_to_num(block)).sum(axis=1)
        means.append(np.divide(sums, total, out=np.full(len(total), np.nan), where=total > 0))
    return np.asarray(np.mean(means, axis=0), dtype=np.float64)
