"""Statistics of scores: intervals, paired tests, families, equivalence, power. Pure numbers."""

from longact_cli.reporting.statistics.estimates import (
    LEVEL,
    RESAMPLES,
    Estimate,
    Floats,
    Interval,
    Ints,
    difference_estimate,
    macro_mean,
    score_estimate,
    wilson_interval,
)

__all__ = [
    "LEVEL",
    "RESAMPLES",
    "Estimate",
    "Floats",
    "Interval",
    "Ints",
    "difference_estimate",
    "macro_mean",
    "score_estimate",
    "wilson_interval",
]
