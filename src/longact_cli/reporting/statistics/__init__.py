"""Statistics of scores: intervals, paired tests, families, equivalence, power. Pure numbers."""

from longact_cli.reporting.statistics.comparison import (
    ALPHA,
    Comparison,
    Pairing,
    compare_scores,
    with_holm,
)
from longact_cli.reporting.statistics.crossed import Effect, crossed_effect
from longact_cli.reporting.statistics.equivalence import equivalence_p, non_inferiority_p
from longact_cli.reporting.statistics.estimates import (
    LEVEL,
    Estimate,
    Interval,
    difference_estimate,
    macro_mean,
    score_estimate,
    wilson_interval,
)
from longact_cli.reporting.statistics.family import holm
from longact_cli.reporting.statistics.paired import mcnemar_p, sign_flip_p
from longact_cli.reporting.statistics.resampling import RESAMPLES, Floats, Ints

__all__ = [
    "ALPHA",
    "LEVEL",
    "RESAMPLES",
    "Comparison",
    "Effect",
    "Estimate",
    "Floats",
    "Interval",
    "Ints",
    "Pairing",
    "compare_scores",
    "crossed_effect",
    "difference_estimate",
    "equivalence_p",
    "holm",
    "macro_mean",
    "mcnemar_p",
    "non_inferiority_p",
    "score_estimate",
    "sign_flip_p",
    "wilson_interval",
    "with_holm",
]
