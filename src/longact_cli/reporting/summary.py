"""The scores of one evaluation, by task and length, with intervals over its questions."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from longact_cli.reporting.statistics import score_estimate
from longact_cli.results import SampleResult

_SEED = 0
MEAN = "mean"


class ScoreLine(NamedTuple):
    """One line of an evaluation: score and 95 % interval in 0..1, NaN where nothing was scored.

    `score_all` counts failed and empty answers as wrong, as the official scorers do.
    `task` is `mean` and `context_length` None for the mean over all tasks and lengths.
    """

    task: str
    context_length: int | None
    score: float
    low: float
    high: float
    n_scored: int
    n_failed: int
    n_truncated: int
    score_all: float = 0.0


def summarise(samples: Sequence[SampleResult]) -> tuple[ScoreLine, ...]:
    """Return a line for each task and length in their order, then their unweighted mean."""
    groups: dict[tuple[str, int], list[SampleResult]] = {}
    for sample in samples:
        groups.setdefault((sample.task, sample.context_length), []).append(sample)
    lines = [_line(task, length, [group]) for (task, length), group in groups.items()]
    if len(groups) > 1:
        lines.append(_line(MEAN, None, list(groups.values())))
    return tuple(lines)


def _line(task: str, length: int | None, groups: list[list[SampleResult]]) -> ScoreLine:
    samples = [sample for group in groups for sample in group]
    scores = np.array([[np.nan if s.score is None else s.score for s in samples]])
    strata = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    found = score_estimate(scores, strata, rng=np.random.default_rng(_SEED))
    failed = sum(sample.error is not None for sample in samples)
    truncated = sum(sample.truncated for sample in samples)
    scored = len(samples) - failed
    over_all = [sum(s.score or 0.0 for s in group) / len(group) for group in groups]
    return ScoreLine(
        task,
        length,
        found.value,
        found.low,
        found.high,
        scored,
        failed,
        truncated,
        sum(over_all) / len(over_all),
    )
