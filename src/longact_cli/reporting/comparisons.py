"""Arms against arms: the one place where tables, figures and claims get their tests from."""

from collections.abc import Sequence

from longact_cli.reporting.arms import (
    Arm,
    Question,
    Stratum,
    documents_of,
    resampling,
    scores_of,
    strata_of,
)
from longact_cli.reporting.statistics import Comparison, Pairing, compare_scores, with_holm

__all__ = ["Comparison", "compare", "compare_family", "shared_seeds"]


def compare(
    left: Arm, right: Arm, *, stratum: Stratum | None = None, mid: bool = False
) -> Comparison | None:
    """Return left minus right on the questions both were asked; None without any.

    Seeds are matched where the arms share some; only those are then used. Without a family there is
    no `p_holm`.

    Args:
        left: The arm that the claim favours.
        right: What it is compared with.
        stratum: Only this task and context length; None for the whole benchmark.
        mid: Use McNemar's mid-p instead of the exact p-value.
    """
    questions = _shared_questions(left, right, stratum)
    if not questions or not left.seeds or not right.seeds:
        return None
    seeds = shared_seeds(left, right)
    pairing = Pairing(
        strata_of(left.section.benchmark, questions),
        documents_of(left, questions),
        same_seeds=bool(seeds),
    )
    return compare_scores(
        scores_of(left, questions, seeds or left.seeds),
        scores_of(right, questions, seeds or right.seeds),
        pairing,
        rng=resampling(),
        mid=mid,
    )


def compare_family(pairs: Sequence[tuple[Arm, Arm] | None]) -> tuple[Comparison | None, ...]:
    """Return the comparisons of a declared family, left minus right, with Holm's correction."""
    return with_holm([None if pair is None else compare(*pair) for pair in pairs])


def shared_seeds(left: Arm, right: Arm) -> list[int | None]:
    """Return the seeds both arms have, in the order of the left one."""
    return [seed for seed in left.seeds if seed in right.seeds]


def _shared_questions(left: Arm, right: Arm, stratum: Stratum | None) -> list[Question]:
    shared = sorted(set(left.questions) & set(right.questions))
    return [question for question in shared if stratum is None or question[:2] == stratum]
