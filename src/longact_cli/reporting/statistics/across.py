"""Many tasks at once: interquartile mean and probability of improvement, as rliable defines them.

Scores are `[seeds, tasks]`, 0..1. Intervals come from drawing seeds with replacement within each
task; with few seeds they are too narrow.

Source: Agarwal et al. 2021 (arXiv 2108.13264), https://github.com/google-research/rliable.
"""

from typing import NamedTuple

import numpy as np

from longact_cli.reporting.statistics.estimates import LEVEL
from longact_cli.reporting.statistics.resampling import RESAMPLES, Floats

_TRIMMED = 0.25


class Aggregate(NamedTuple):
    """A number over tasks and seeds with its 95 % interval."""

    value: float
    low: float
    high: float


def interquartile_mean(scores: Floats, *, rng: np.random.Generator) -> Aggregate:
    """Return the mean of the middle half of all seed and task scores."""
    from scipy.stats import trim_mean  # takes half a second to import

    values = trim_mean(_redrawn(scores, rng).reshape(RESAMPLES, -1), _TRIMMED, axis=1)
    return _aggregate(float(trim_mean(scores, _TRIMMED, axis=None)), values)


def probability_of_improvement(
    left: Floats, right: Floats, *, rng: np.random.Generator
) -> Aggregate:
    """Return how often a seed of `left` beats one of `right` on a task, averaged over tasks.

    Ties count one half; 0.5 means no difference. Tasks are those of both, in the same order.
    """
    values = _improvement(_redrawn(left, rng), _redrawn(right, rng))
    return _aggregate(float(_improvement(left[None], right[None])[0]), values)


def _improvement(left: Floats, right: Floats) -> Floats:
    """Return the probability for each draw; [draws, seeds, tasks] to [draws]."""
    wins = np.sign(left[:, :, None] - right[:, None])
    probability: Floats = (wins.mean(axis=(1, 2, 3)) + 1) / 2
    return probability


def _aggregate(value: float, draws: Floats) -> Aggregate:
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Aggregate(value, float(low), float(high))


def _redrawn(scores: Floats, rng: np.random.Generator) -> Floats:
    """Draw the seeds of each task with replacement, tasks apart; [RESAMPLES, seeds, tasks]."""
    rows = rng.integers(len(scores), size=(RESAMPLES, *scores.shape))
    drawn: Floats = np.take_along_axis(scores[None], rows, axis=1)
    return drawn
