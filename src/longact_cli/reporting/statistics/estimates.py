"""Scores with their uncertainty: macro means, differences and 95 % intervals. Pure numpy and scipy.

Scores are `[seeds, questions]`, each in 0..1, higher is better; NaN is an answer that failed or was
not asked for, and is left out rather than counted as 0. `strata` gives each question the number of
its (task, context length); a macro mean weighs all strata equally. Within a stratum the seeds are
averaged per question first, then the questions.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from longact_cli.reporting.statistics.resampling import (
    Floats,
    Ints,
    question_weights,
    seed_weights,
)

LEVEL = 0.95


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


class _Grouping(NamedTuple):
    strata: Ints
    documents: Ints | None


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


def score_estimate(
    scores: Floats, strata: Ints, *, rng: np.random.Generator, documents: Ints | None = None
) -> Estimate:
    """Return the macro mean with the bootstrap interval over seeds and questions.

    All numbers are NaN where a stratum has no answer. Where the resampled values never vary (every
    answer right, or every answer wrong) the bootstrap has no width; the interval is then the
    stratified Wilson interval over questions.

    Args:
        scores: Scores, [seeds, questions].
        strata: Stratum of each question, [questions].
        rng: Source of the resampling.
        documents: Document of each question, [questions]; those of one document are drawn together.
    """
    value = macro_mean(scores, strata)
    interval = _percentiles(value, _draws(scores, None, _Grouping(strata, documents), rng=rng))
    if interval.low == interval.high:
        interval = _stratified_wilson(scores, strata)
    return _estimate(value, interval, scores, n_failed=int(np.isnan(scores).sum()))


def difference_estimate(
    left: Floats,
    right: Floats,
    strata: Ints,
    *,
    same_seeds: bool,
    rng: np.random.Generator,
    documents: Ints | None = None,
) -> Estimate:
    """Return macro mean(left) - macro mean(right) on shared questions; positive: left is better.

    NaN where a stratum has no pair. Columns of both are the same questions; resampling draws the
    same questions for both. Where no pair differs the interval reaches as far as Wilson's does for
    no successes in that many questions.

    Args:
        left: Scores, [seeds, questions].
        right: Scores, [seeds, questions].
        strata: Stratum of each question, [questions].
        same_seeds: Whether row i of both has the same seed. Then answers are paired by seed and
            question, and a failed answer takes its partner with it. Otherwise each side is averaged
            over its own seeds, drawn independently, and a question is left out where either side
            has no answer at all.
        rng: Source of the resampling.
        documents: Document of each question, [questions]; those of one document are drawn together.

    Source: paired differences on shared questions, Miller 2024 (arXiv 2411.00640).
    """
    found = differences(left, right, same_seeds=same_seeds)
    a, b = (found.delta, None) if same_seeds else (left, right)
    value = macro_mean(found.delta, strata)
    if np.nanmax(np.abs(found.delta), initial=0.0):
        interval = _percentiles(value, _draws(a, b, _Grouping(strata, documents), rng=rng))
    else:
        interval = _around_zero(found.delta)
    return Estimate(value, *interval, found.n_questions, found.n_seeds, found.n_failed)


class Differences(NamedTuple):
    """Left minus right per question, [seeds, questions] or [1, questions], and what entered."""

    delta: Floats
    n_questions: int
    n_seeds: int
    n_failed: int


def differences(left: Floats, right: Floats, *, same_seeds: bool) -> Differences:
    """Return the differences of pairs of answers, or of question means where seeds differ."""
    if same_seeds:
        delta = left - right
        seeds, failed = len(delta), int(np.isnan(delta).sum())
    else:
        delta = question_means(left)[None] - question_means(right)[None]
        seeds, failed = (
            min(len(left), len(right)),
            int(np.isnan(left).sum() + np.isnan(right).sum()),
        )
    return Differences(delta, int((~np.isnan(delta)).any(axis=0).sum()), seeds, failed)


def _around_zero(delta: Floats) -> Interval:
    n = int((~np.isnan(delta)).any(axis=0).sum())
    if not n:
        return Interval(float("nan"), float("nan"))
    reach = wilson_interval(0, n).high
    return Interval(-reach, reach)


def _estimate(value: float, interval: Interval, scores: Floats, *, n_failed: int) -> Estimate:
    questions = int((~np.isnan(scores)).any(axis=0).sum())
    return Estimate(value, *interval, questions, len(scores), n_failed)


def question_means(scores: Floats) -> Floats:
    """Average over seeds, [questions]; NaN where no seed has an answer."""
    valid = ~np.isnan(scores)
    counts = valid.sum(axis=0)
    sums: Floats = np.where(valid, scores, 0.0).sum(axis=0)
    means: Floats = np.full(len(counts), np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def _blocks(scores: Floats, strata: Ints) -> Iterator[Floats]:
    """Yield the question means of each stratum without the NaNs."""
    means = question_means(scores)
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
    quantile = np.nanquantile if np.isnan(draws).any() else np.quantile  # twice as fast
    tails = quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(tails[0]), float(tails[1]))


def _draws(
    left: Floats, right: Floats | None, grouping: _Grouping, *, rng: np.random.Generator
) -> Floats:
    """Return macro means of `left` (minus `right`) under crossed resampling, [RESAMPLES].

    Seeds and questions are drawn with replacement, independently of each other, questions within
    their stratum and whole documents at once. One seed stays as it is: the interval is then over
    questions only.

    Source: the pigeonhole bootstrap, Owen 2007, doi:10.1214/07-AOAS122; slightly conservative.
    """
    strata, documents = grouping
    membership = (strata[:, None] == np.unique(strata)[None]).astype(np.float64)
    parts = []
    for weights in question_weights(strata, documents, rng=rng):
        values = _resampled_means(left, len(weights), rng)
        if right is not None:
            values = values - _resampled_means(right, len(weights), rng)
        parts.append(_weighted_macro_mean(values, weights, membership))
    return np.concatenate(parts)


def _resampled_means(scores: Floats, n: int, rng: np.random.Generator) -> Floats:
    """Return question means over `n` draws of the seeds; NaN without an answer.

    [n, questions], or [1, questions] for a single seed, which every draw repeats.
    """
    if len(scores) == 1:
        return scores
    weights = seed_weights(len(scores), n, rng)
    valid = ~np.isnan(scores)
    if valid.all():
        complete: Floats = (weights @ scores) / len(scores)
        return complete
    counts = weights @ valid.astype(np.float64)
    sums = weights @ np.where(valid, scores, 0.0)
    means: Floats = np.full(sums.shape, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means


def _weighted_macro_mean(values: Floats, weights: Floats, membership: Floats) -> Floats:
    """Average the columns of `values` within strata by `weights`, then the strata; [n].

    `membership` is 1 where a question belongs to a stratum, [questions, strata].
    """
    valid = ~np.isnan(values)
    complete = bool(valid.all())
    filled = values if complete else np.where(valid, values, 0.0)
    if complete and len(values) > 1:
        sums, totals = (weights * values) @ membership, weights @ membership
    elif len(values) == 1:
        sums, totals = weights @ (filled.T * membership), weights @ (valid.T * membership)
    else:
        sums, totals = (weights * filled) @ membership, (weights * valid) @ membership
    means = np.divide(sums, totals, out=np.full(sums.shape, np.nan), where=totals > 0)
    return np.asarray(means.mean(axis=1), dtype=np.float64)
