"""Comparisons of arms as families, and over many tasks at once."""

from collections.abc import Sequence

import numpy as np

from longact_cli.reporting.arms import Arm, compare, resampling, strata_of
from longact_cli.reporting.statistics import Comparison, Floats, with_holm
from longact_cli.reporting.statistics.across import (
    Aggregate,
    interquartile_mean,
    probability_of_improvement,
)

__all__ = ["compare", "compare_family", "improvement", "task_iqm"]


def compare_family(pairs: Sequence[tuple[Arm, Arm] | None]) -> tuple[Comparison | None, ...]:
    """Return the comparisons of a declared family, left minus right, with Holm's correction."""
    return with_holm([None if pair is None else compare(*pair) for pair in pairs])


def task_iqm(arm: Arm) -> Aggregate | None:
    """Return the interquartile mean over seeds, tasks and lengths; None where one has no score."""
    scores = _task_scores(arm)
    return None if scores is None else interquartile_mean(scores, rng=resampling())


def improvement(left: Arm, right: Arm) -> Aggregate | None:
    """Return the probability that a seed of `left` beats one of `right` on a task and length.

    None where the arms were not asked the same tasks, or one has no score.
    """
    mine, theirs = _task_scores(left), _task_scores(right)
    tasks = [{question[:2] for question in arm.questions} for arm in (left, right)]
    if mine is None or theirs is None or tasks[0] != tasks[1]:
        return None
    return probability_of_improvement(mine, theirs, rng=resampling())


def _task_scores(arm: Arm) -> Floats | None:
    """Return each seed's mean on each task and length, [seeds, tasks]; None with a gap."""
    strata = strata_of("", arm.questions)
    if not arm.seeds or not len(strata):
        return None
    columns = [arm.scores[:, strata == stratum] for stratum in np.unique(strata)]
    if any(np.isnan(block).all(axis=1).any() for block in columns):
        return None
    return np.stack([np.nanmean(block, axis=1) for block in columns], axis=1)
