"""The decision rule: from a comparison to a verdict. Documented in docs/statistics.md."""

from typing import Literal, NamedTuple

from scipy.special import ndtri, stdtrit

from longact_cli.reporting.claims.declared import Claim
from longact_cli.reporting.statistics import ALPHA, Comparison, equivalence_p

Word = Literal["supported", "not supported", "inconclusive", "not run"]
_POWER = 0.8


class Verdict(NamedTuple):
    """The word and its reason, for people."""

    word: Word
    reason: str


def claim_p(claim: Claim, comparison: Comparison) -> float:
    """Return the p-value that the claim is corrected by: of no difference, or of no equivalence."""
    if claim.check == "as_good":
        return equivalence_p(comparison.effect, claim.margin)
    return comparison.p


def judge(claim: Claim, comparison: Comparison, p_holm: float) -> Verdict:
    """Return the verdict on a comparison of finished arms.

    Args:
        claim: What was claimed.
        comparison: Left minus right.
        p_holm: `claim_p` after Holm's correction over the family.
    """
    settle = _as_good if claim.check == "as_good" else _better
    found = settle(claim, comparison, p_holm)
    if found.word != "inconclusive" and comparison.n_seeds < claim.min_seeds:
        return Verdict(
            "inconclusive", f"{found.reason}; {comparison.n_seeds} of {claim.min_seeds} seeds"
        )
    return found


def detectable_difference(comparison: Comparison) -> float:
    """Return the difference found with 80 % power at the standard error that was observed."""
    effect = comparison.effect
    if effect.standard_error != effect.standard_error:
        return float("nan")
    quantile = float(stdtrit(effect.degrees, 1 - ALPHA / 2))
    return (quantile + float(ndtri(_POWER))) * effect.standard_error


def _better(claim: Claim, comparison: Comparison, p_holm: float) -> Verdict:
    if p_holm < ALPHA:
        above = comparison.difference > 0
        return Verdict("supported", "above 0") if above else Verdict("not supported", "below 0")
    if comparison.high < claim.margin:
        return Verdict("not supported", f"gain of {_points(claim.margin)} ruled out")
    return Verdict("inconclusive", f"would find {_points(detectable_difference(comparison))}")


def _as_good(claim: Claim, comparison: Comparison, p_holm: float) -> Verdict:
    if p_holm < ALPHA:
        return Verdict("supported", f"within {_points(claim.margin)}")
    if comparison.low > claim.margin or comparison.high < -claim.margin:
        return Verdict("not supported", f"more than {_points(claim.margin)} apart")
    widest = max(abs(comparison.low), abs(comparison.high))
    return Verdict("inconclusive", f"up to {_points(widest)} apart")


def _points(difference: float) -> str:
    return f"{100 * difference:.1f} points"
