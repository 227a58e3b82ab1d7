"""Is one as good as the other? Two one-sided tests against a margin declared beforehand."""

from scipy.special import stdtr

from longact_cli.reporting.statistics.crossed import Effect


def non_inferiority_p(effect: Effect, margin: float) -> float:
    """Return the p-value of "the left side is worse by `margin` or more"; small: it is not.

    Args:
        effect: Left minus right.
        margin: In the unit of the difference, above 0.
    """
    return _below(-(effect.difference + margin), effect)


def equivalence_p(effect: Effect, margin: float) -> float:
    """Return the p-value of "the difference is `margin` or more, either way" (TOST).

    Small: the two are as good as each other within the margin.

    Source: Schuirmann 1987, doi:10.1007/BF01068419; equal to statsmodels' `ttost_paired` where one
    seed answered questions of one stratum.
    """
    return max(
        _below(-(effect.difference + margin), effect), _below(effect.difference - margin, effect)
    )


def _below(distance: float, effect: Effect) -> float:
    """Return the chance of a t as low as distance / error; certain knowledge where it is 0."""
    if effect.standard_error == 0.0:
        return 0.0 if distance < 0.0 else 1.0
    return float(stdtr(effect.degrees, distance / effect.standard_error))
