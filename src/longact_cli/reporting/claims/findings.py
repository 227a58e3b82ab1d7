"""From a store to a verdict on every claim."""

from collections.abc import Sequence
from typing import NamedTuple

from longact_cli.reporting.arms import Arm
from longact_cli.reporting.claims.commands import (
    Place,
    command_for_nothing,
    command_for_seeds,
    command_for_side,
)
from longact_cli.reporting.claims.declared import Claim, declared_claims
from longact_cli.reporting.claims.evidence import Case, cases_of, trained_arms
from longact_cli.reporting.claims.published import judge_granularity, judge_relative_gain
from longact_cli.reporting.claims.verdict import Verdict, claim_p, detectable_difference, judge
from longact_cli.reporting.comparisons import compare
from longact_cli.reporting.statistics import Comparison, holm

_MORE_SEEDS = 2


class Finding(NamedTuple):
    """One claim in one place.

    Attributes:
        case: The arms that settle it.
        comparison: Left minus right; None where no two finished arms share questions.
        p: The claim's p-value, NaN without a comparison; `p_holm` corrected over the family.
        remark: A sentence of evidence beyond the numbers; empty without one.
        command: What to run next; empty where nothing is open.
    """

    claim: Claim
    case: Case
    comparison: Comparison | None
    p: float
    p_holm: float
    verdict: Verdict
    remark: str
    command: str


def judge_claims(arms: Sequence[Arm], study: str) -> tuple[Finding, ...]:
    """Return a finding for every claim and every place of the store where it can be asked.

    P-values are corrected within each family over the comparisons that could be made.
    """
    place = Place.of(arms, study)
    asked = [(claim, case) for claim in declared_claims().claims for case in cases_of(claim, arms)]
    compared = [_difference(case) for _, case in asked]
    values = [
        float("nan") if found is None else claim_p(claim, found)
        for (claim, _), found in zip(asked, compared, strict=True)
    ]
    corrected = _by_family([claim for claim, _ in asked], values)
    return tuple(
        _finding(
            Finding(claim, case, found, p, p_holm, Verdict("not run", ""), "", ""), arms, place
        )
        for (claim, case), found, p, p_holm in zip(asked, compared, values, corrected, strict=True)
    )


def _difference(case: Case) -> Comparison | None:
    return None if case.left is None or case.right is None else compare(case.left, case.right)


def _by_family(claims: Sequence[Claim], values: Sequence[float]) -> list[float]:
    corrected = list(values)
    for family in declared_claims().families:
        places = [i for i, claim in enumerate(claims) if claim.family == family]
        for i, p in zip(places, holm([values[i] for i in places]), strict=True):
            corrected[i] = p
    return corrected


def _finding(blank: Finding, arms: Sequence[Arm], place: Place) -> Finding:
    claim = blank.claim
    if claim.check in ("granularity", "relative_gain"):
        settle = judge_granularity if claim.check == "granularity" else judge_relative_gain
        verdict, remark = settle(claim)
        return blank._replace(verdict=verdict, remark=remark)
    if claim.check == "seeds":
        return _seeds(blank, arms, place)
    if claim.check == "analysis":
        remark = "A store of evaluations cannot settle it; the command writes its own evidence."
        verdict = Verdict("not run", "not in evaluations")
        return blank._replace(verdict=verdict, remark=remark, command=claim.command)
    return _compared(blank, place)


def _compared(blank: Finding, place: Place) -> Finding:
    claim, case, comparison = blank.claim, blank.case, blank.comparison
    if comparison is None or comparison.difference != comparison.difference:
        verdict = Verdict("not run", _lacking(case))
        return blank._replace(verdict=verdict, command=_missing_command(claim, case, place))
    verdict = judge(claim, comparison, blank.p_holm)
    open_ = verdict.word == "inconclusive"
    seeds = max(claim.min_seeds, _seeds_to_find(claim, comparison))
    command = command_for_seeds(claim, case, seeds, place) if open_ else ""
    return blank._replace(verdict=verdict, command=command)


def _lacking(case: Case) -> str:
    if case.left is None:
        return "no such runs"
    if case.right is None:
        return "no other side"
    unfinished = [arm.strategy for arm in (case.left, case.right) if not arm.seeds]
    return f"unfinished: {', '.join(unfinished)}" if unfinished else "no shared questions"


def _missing_command(claim: Claim, case: Case, place: Place) -> str:
    if case.left is None:
        return command_for_nothing(claim, place)
    if case.right is None:
        return command_for_side(claim, case, place)
    return command_for_seeds(claim, case, claim.min_seeds, place)


def _seeds_to_find(claim: Claim, comparison: Comparison) -> int:
    """Return how many seeds the difference that matters takes, if the error falls with them."""
    aim = claim.gain or claim.margin
    ratio = detectable_difference(comparison) / aim
    if comparison.n_seeds < claim.min_seeds or ratio != ratio:
        return claim.min_seeds
    return max(comparison.n_seeds + _MORE_SEEDS, round(comparison.n_seeds * ratio**2))


def _seeds(blank: Finding, arms: Sequence[Arm], place: Place) -> Finding:
    claim, trained = blank.claim, trained_arms(arms)
    if not trained:
        command = command_for_nothing(claim, place)
        return blank._replace(verdict=Verdict("not run", "no trained arm"), command=command)
    fewest = min(trained, key=lambda arm: len(arm.seeds))
    enough = [arm for arm in trained if len(arm.seeds) >= claim.min_seeds]
    reason = f"{len(enough)} of {len(trained)} arms have {claim.min_seeds}"
    if len(enough) == len(trained):
        return blank._replace(verdict=Verdict("supported", reason))
    command = command_for_seeds(claim, Case(fewest, fewest), claim.min_seeds, place)
    return blank._replace(verdict=Verdict("not supported", reason), command=command)
