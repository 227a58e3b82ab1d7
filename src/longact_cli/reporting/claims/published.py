"""Claims that the published numbers settle by themselves."""

from longact_cli.reporting.claims.declared import Claim
from longact_cli.reporting.claims.verdict import Verdict
from longact_cli.reporting.reference import PublishedValue, paper
from longact_cli.reporting.statistics.granularity import check_granularity


def judge_granularity(claim: Claim) -> tuple[Verdict, str]:
    """Ask whether the published percentage can be a share of that many questions."""
    found = check_granularity(_value(claim.published).percent, claim.questions or 1)
    word = "supported" if found.possible else "not supported"
    nearest = " and ".join(f"{k}/{found.total}" for k in (found.below, found.above))
    reason = "a whole number fits" if found.possible else f"between {nearest}"
    return Verdict(
        "supported" if word == "supported" else "not supported", reason
    ), found.sentence()


def judge_relative_gain(claim: Claim) -> tuple[Verdict, str]:
    """Ask whether the stated gain is that between two published scores, in points or relative."""
    new, old = _value(claim.published), _value(claim.reference)
    stated = next(gain for gain in paper().gains if gain.id == claim.stated)
    points = float(new.percent) - float(old.percent)
    relative = 100 * points / float(old.percent)
    fits = any(abs(gain - float(stated.percent)) < 0.5 for gain in (points, relative))
    needed = float(new.percent) / (1 + float(stated.percent) / 100)
    sentence = (
        f"{new.percent} - {old.percent} = {points:.2f} points, {relative:.1f} % relative; "
        f"{stated.percent} % relative needs a baseline of {needed:.1f}."
    )
    reason = f"{points:+.2f} points, {relative:+.1f} %"
    return Verdict("supported" if fits else "not supported", reason), sentence


def _value(name: str | None) -> PublishedValue:
    return next(value for value in paper().values if value.id == name)
