"""What the store holds for a claim: pairs of arms, one for each place where it can be asked."""

from collections.abc import Iterator, Sequence
from math import isclose
from typing import NamedTuple

from longact_cli.plan import BASE_ARM
from longact_cli.reporting.arms import Arm
from longact_cli.reporting.claims.declared import ArmSpec, Claim
from longact_cli.reporting.lines import SFT


class Case(NamedTuple):
    """Both sides of a claim in one place; None where the store has no such arm."""

    left: Arm | None
    right: Arm | None

    @property
    def where(self) -> str:
        """The place for people: model, algorithm, benchmark; empty without arms."""
        arm = self.left or self.right
        if arm is None:
            return ""
        extra = ", ".join(f"{key}={value}" for key, value in sorted(arm.variant.items()))
        return f"{arm.section.title} ({extra})" if extra else arm.section.title


def cases_of(claim: Claim, arms: Sequence[Arm]) -> tuple[Case, ...]:
    """Return each place where the store holds the claim's left side; an empty case without any."""
    if claim.left is None or claim.right is None:
        return (Case(None, None),)
    lefts = [arm for arm in arms if _is(arm, claim.left) and _asked(arm, claim)]
    found = [Case(left, _partner(left, claim.right, arms)) for left in lefts]
    return tuple(found) or (Case(None, None),)


def trained_arms(arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """Return the arms that were trained and have a score."""
    return tuple(arm for arm in arms if arm.strategy != BASE_ARM and arm.seeds)


def _asked(arm: Arm, claim: Claim) -> bool:
    """Return whether the claim is about this arm's place; without an algorithm it is about RL."""
    if claim.algorithm is None and arm.section.algorithm == SFT:
        return False
    wanted = (claim.model, claim.algorithm, claim.benchmark)
    return all(want in (None, have) for want, have in zip(wanted, arm.section, strict=True))


def _is(arm: Arm, spec: ArmSpec) -> bool:
    if arm.strategy != spec.strategy or spec.algorithm not in (None, arm.section.algorithm):
        return False
    if spec.adaptive or arm.achieved is not None:
        return spec.adaptive and arm.achieved is not None
    return spec.sparsity is None or (
        arm.sparsity is not None and isclose(arm.sparsity, spec.sparsity)
    )


def _partner(left: Arm, spec: ArmSpec, arms: Sequence[Arm]) -> Arm | None:
    """Return the other side in the same place, finished ones first.

    Its settings agree with the left side's, as far as they mean something for it.
    """
    section = left.section
    if spec.algorithm is not None:
        section = section._replace(algorithm=spec.algorithm)
    return max(_candidates(left, spec, [arm for arm in arms if arm.section == section]),
               key=lambda arm: len(arm.seeds), default=None)  # fmt: skip


def _candidates(left: Arm, spec: ArmSpec, arms: Sequence[Arm]) -> Iterator[Arm]:
    for arm in arms:
        elsewhere = arm.section != left.section or spec.adaptive or left.achieved is not None
        agrees = elsewhere or arm.variant.items() <= left.variant.items()
        if _is(arm, spec) and agrees:
            yield arm
