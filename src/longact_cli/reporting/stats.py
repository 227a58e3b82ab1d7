"""The names of `statistics` that tables and figures use."""

from longact_cli.reporting.statistics import (
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
    "Estimate",
    "Floats",
    "Interval",
    "Ints",
    "difference_estimate",
    "macro_mean",
    "score_estimate",
    "wilson_interval",
]
