"""Two sides on shared questions: difference, interval and test, chosen by what was observed."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from longact_cli.reporting.statistics.crossed import Effect, crossed_effect
from longact_cli.reporting.statistics.estimates import (
    Estimate,
    Interval,
    difference_estimate,
    differences,
    macro_mean,
    question_means,
)
from longact_cli.reporting.statistics.family import holm
from longact_cli.reporting.statistics.paired import mcnemar_p, sign_flip_p
from longact_cli.reporting.statistics.resampling import Floats, Ints

ALPHA = 0.05
MCNEMAR = "exact McNemar test over questions"
MCNEMAR_MID = "McNemar test (mid-p) over questions"
SIGNS = "paired permutation over questions"
SIGNS_DOCUMENTS = "paired permutation over documents"
CROSSED = "t test over seeds x questions"
CROSSED_DOCUMENTS = "t test over seeds x documents"


class Pairing(NamedTuple):
    """How the answers of two sides belong together.

    `strata` and `documents` number each question, [questions]; `documents` is None where each
    question has its own. `same_seeds`: row i of both sides has the same seed.
    """

    strata: Ints
    documents: Ints | None
    same_seeds: bool


class Comparison(NamedTuple):
    """Left minus right on shared questions; scores lie in 0..1, so differences in -1..1.

    `p` is two-sided. `p_holm` is p after Holm's correction over the family that the comparison was
    declared to belong to; None outside a family. `n_failed` counts pairs of answers, or answers,
    that were left out. With one seed on both sides the comparison is about these two checkpoints
    and says nothing of the method's other seeds.
    """

    difference: float
    low: float
    high: float
    p: float
    p_holm: float | None
    n_questions: int
    n_documents: int
    n_seeds: int
    n_failed: int
    effect: Effect
    method: str

    @property
    def estimate(self) -> Estimate:
        """The difference as tables show it."""
        interval = (self.difference, self.low, self.high)
        return Estimate(*interval, self.n_questions, self.n_seeds, self.n_failed)

    @property
    def significant(self) -> bool:
        """Whether the corrected p-value (the plain one outside a family) lies below 0.05."""
        return (self.p if self.p_holm is None else self.p_holm) < ALPHA

    @property
    def better(self) -> bool:
        """Whether the left side is significantly better."""
        return self.significant and self.difference > 0.0


def compare_scores(
    left: Floats, right: Floats, pairing: Pairing, *, rng: np.random.Generator, mid: bool = False
) -> Comparison:
    """Compare two sides on the same questions.

    One seed on both sides: bootstrap interval over questions, and McNemar's exact test where every
    answer is right or wrong, every question has its own document and all strata are of equal size;
    else random signs per document. More seeds: interval and p-value of the t test that lets seeds
    and questions vary. All numbers are NaN where a stratum has no pair.

    Args:
        left: Scores, [seeds, questions]; NaN where an answer failed.
        right: Scores, [seeds, questions].
        pairing: How rows and columns belong together.
        rng: Source of the resampling.
        mid: Use McNemar's mid-p instead of the exact p-value.
    """
    strata, documents, same_seeds = pairing
    found = differences(left, right, same_seeds=same_seeds)
    effect = crossed_effect(left, right, strata, documents, same_seeds=same_seeds)
    value = macro_mean(found.delta, strata)
    if max(len(left), len(right)) > 1 and effect.standard_error > 0.0:
        interval, p = effect.interval, effect.p
        method = CROSSED if documents is None else CROSSED_DOCUMENTS
    else:
        means = question_means(left), question_means(right)
        p, method = _over_questions(*means, pairing, rng=rng, mid=mid)
        estimate = difference_estimate(
            left, right, strata, same_seeds=same_seeds, rng=rng, documents=documents
        )
        interval = Interval(estimate.low, estimate.high)
    return Comparison(
        difference=value,
        low=interval.low,
        high=interval.high,
        p=p if value == value else value,
        p_holm=None,
        n_questions=found.n_questions,
        n_documents=_n_documents(found.delta, documents),
        n_seeds=found.n_seeds,
        n_failed=found.n_failed,
        effect=effect,
        method=method,
    )


def with_holm(comparisons: Sequence[Comparison | None]) -> tuple[Comparison | None, ...]:
    """Return the comparisons as one family: with `p_holm`, and None where there was none."""
    corrected = holm([float("nan") if c is None else c.p for c in comparisons])
    return tuple(
        None if c is None else c._replace(p_holm=p)
        for c, p in zip(comparisons, corrected, strict=True)
    )


def _over_questions(
    left: Floats, right: Floats, pairing: Pairing, *, rng: np.random.Generator, mid: bool
) -> tuple[float, str]:
    """Return the p-value over questions alone, and the name of the test; [questions] each."""
    kept = ~np.isnan(left - right)
    left, right, strata = left[kept], right[kept], pairing.strata[kept]
    _, places, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    binary = bool(np.isin(left, (0.0, 1.0)).all() and np.isin(right, (0.0, 1.0)).all())
    if binary and pairing.documents is None and len(set(sizes.tolist())) == 1:
        only_left, only_right = int((left > right).sum()), int((left < right).sum())
        return mcnemar_p(only_left, only_right, mid=mid), MCNEMAR_MID if mid else MCNEMAR
    weighted = (left - right) / (len(sizes) * sizes[places])
    if pairing.documents is None:
        return sign_flip_p(weighted, rng=rng), SIGNS
    numbers = np.unique(pairing.documents[kept], return_inverse=True)[1]
    units: Floats = np.bincount(numbers, weighted).astype(np.float64)
    return sign_flip_p(units, rng=rng), SIGNS_DOCUMENTS


def _n_documents(delta: Floats, documents: Ints | None) -> int:
    kept = (~np.isnan(delta)).any(axis=0)
    return int(kept.sum()) if documents is None else len(np.unique(documents[kept]))
