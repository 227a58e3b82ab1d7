"""A difference between methods: seeds and questions both vary, and both count. Closed form."""

from typing import NamedTuple

import numpy as np
from scipy.special import stdtr, stdtrit

from longact_cli.reporting.statistics.estimates import LEVEL, Interval, question_means
from longact_cli.reporting.statistics.resampling import Floats, Ints


class Effect(NamedTuple):
    """A difference, its standard error and the degrees of freedom of that error."""

    difference: float
    standard_error: float
    degrees: float

    @property
    def interval(self) -> Interval:
        """The 95 % interval of Student's t."""
        reach = float(stdtrit(self.degrees, (1 + LEVEL) / 2)) * self.standard_error
        return Interval(self.difference - reach, self.difference + reach)

    @property
    def p(self) -> float:
        """Two-sided p-value against no difference; 1 where nothing differs at all."""
        if self.standard_error == 0.0:
            return 1.0 if self.difference == 0.0 else 0.0
        return 2.0 * float(stdtr(self.degrees, -abs(self.difference) / self.standard_error))


class _Part(NamedTuple):
    """A component of the variance and its degrees of freedom."""

    variance: float
    degrees: float


def crossed_effect(
    left: Floats, right: Floats, strata: Ints, documents: Ints | None, *, same_seeds: bool
) -> Effect:
    """Return macro mean(left) - macro mean(right) with the error of seeds and of questions.

    Variance = seeds + questions - (what both share). Seeds: the variance of each side's score over
    its seeds, or of the paired differences. Questions: the variance of the question means, over
    documents where questions share some. What is left between seed and question is in both and
    taken out once; the sum is never below the variance that the questions alone would give.
    Degrees of freedom by Hillis, at most those of the questions. A side with one seed counts as
    that one checkpoint. NaN with fewer than two documents or where a stratum has no pair.

    Args:
        left: Scores, [seeds, questions]; NaN where an answer failed.
        right: Scores, [seeds, questions].
        strata: Stratum of each question, [questions].
        documents: Document of each question, [questions]; None where each has its own.
        same_seeds: Whether row i of both has the same seed.

    Source: two-way analysis with random seeds ("readers") and questions ("cases"), Obuchowski and
    Rockette 1995, doi:10.1080/03610919508813243; degrees of freedom, Hillis 2007,
    doi:10.1002/sim.2532; documents, Miller 2024 (arXiv 2411.00640).
    """
    sides = [left - right] if same_seeds else [left, right]
    means = [question_means(side) for side in sides]
    delta = means[0] if same_seeds else means[0] - means[1]
    kept = ~np.isnan(delta)
    if set(strata[kept]) != set(strata):
        return Effect(float("nan"), float("nan"), float("nan"))
    units = np.arange(len(strata)) if documents is None else documents
    frame = _Frame.of(strata[kept], units[kept])
    questions = frame.variance(delta[kept][None])
    seeds, shared = [], []
    for side in sides:
        rows = _filled(side[:, kept])
        if len(rows) > 1:
            scores = rows @ frame.weights
            seeds.append(_Part(float(np.var(scores, ddof=1)) / len(rows), len(rows) - 1))
            shared.append(_shared(rows, frame))
    return _combined(float(delta[kept] @ frame.weights), questions, seeds, shared)


def _combined(
    difference: float, questions: _Part, seeds: list[_Part], shared: list[_Part]
) -> Effect:
    """Add the parts up, to no less than what the questions alone give for these very seeds."""
    beyond = max(questions.variance - sum(part.variance for part in shared), 0.0)
    variance = max(beyond + sum(part.variance for part in seeds), questions.variance)
    spread = sum(part.variance**2 / part.degrees for part in seeds)
    degrees = min(variance**2 / spread, questions.degrees) if spread else questions.degrees
    return Effect(difference, float(np.sqrt(variance)), degrees)


class _Frame(NamedTuple):
    """Questions with their weight in the macro mean, their stratum and their document."""

    weights: Floats
    strata: Ints
    units: Ints
    sizes: Ints

    @classmethod
    def of(cls, strata: Ints, units: Ints) -> "_Frame":
        kinds, places, sizes = np.unique(strata, return_inverse=True, return_counts=True)
        weights = 1.0 / (len(kinds) * sizes[places])
        numbers = np.unique(units, return_inverse=True)[1]
        return cls(weights, places, numbers, sizes)

    def variance(self, rows: Floats) -> _Part:
        """Return the variance of the weighted mean of each row over documents, averaged.

        Each stratum's deviations are scaled for the mean that was estimated from it.
        """
        shared = np.unique(np.stack([self.strata, self.units]), axis=1)[0]
        n_units = np.bincount(shared, minlength=len(self.sizes))
        scale = np.sqrt(n_units / np.maximum(n_units - 1, 1))[self.strata]
        within = np.stack([_centred(row, self.strata, self.sizes) for row in rows])
        total = self.units.max() + 1
        sums = np.stack(
            [np.bincount(self.units, row * self.weights * scale, total) for row in within]
        )
        degrees = float(total - len(self.sizes)) if total > len(self.sizes) else float(total - 1)
        variance = float((sums**2).sum(axis=1).mean()) if total > 1 else float("nan")
        return _Part(variance, max(degrees, 1.0))


def _centred(row: Floats, strata: Ints, sizes: Ints) -> Floats:
    means = np.bincount(strata, row, len(sizes)) / sizes
    centred: Floats = row - means[strata]
    return centred


def _shared(rows: Floats, frame: _Frame) -> _Part:
    """Return the variance of the mean that comes from seed and question together."""
    seeds = len(rows)
    rest = rows - rows.mean(axis=0)
    part = frame.variance(rest)
    return _Part(part.variance / (seeds - 1), part.degrees * (seeds - 1))


def _filled(rows: Floats) -> Floats:
    """Put the question's mean, moved by the seed's, in the place of an answer that failed."""
    gaps = np.isnan(rows)
    if not gaps.any():
        return rows
    means = question_means(rows)
    moved = np.nan_to_num(np.nanmean(rows - means, axis=1, keepdims=True))
    return np.where(gaps, means + moved, rows)
