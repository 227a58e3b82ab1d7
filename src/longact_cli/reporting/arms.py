"""An arm: the seeds of one setting with their answers as one matrix, its score, its differences."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from longact_cli.plan import BASE_ARM
from longact_cli.reporting.stats import Estimate, Floats, Ints, difference_estimate, score_estimate
from longact_cli.tracking.query import TrackedCell

RESAMPLING_SEED = 20260414
# These masks have one level: a comparison with them does not ask for an equal sparsity.
ONE_LEVEL = (BASE_ARM, "dense", "frozen")
# Their score is the mean over all questions, as officially; elsewhere tasks have equal weight.
POOLED = ("longbench-v2",)


class Question(NamedTuple):
    """What was asked: equal for every checkpoint that was asked the same."""

    task: str
    context_length: int
    sample: str
    difficulty: str = ""


Part = Callable[[Question], bool]
"""Chooses questions; estimates are remembered for each `Part` object."""


class Section(NamedTuple):
    """What arms have in common that may be compared; `algorithm` is None without any training."""

    model: str
    algorithm: str | None
    benchmark: str

    @property
    def title(self) -> str:
        """The section's name for people."""
        return ", ".join(part for part in self if part)


@dataclass(frozen=True, eq=False)
class Arm:
    """One setting with all its seeds.

    Attributes:
        strategy: The mask strategy, or `base` for the untrained model.
        sparsity: Fraction of query/key rows updated; None for the untrained model.
        variant: Other settings in which this arm differs from another one of the same name.
        cells: Its eval cells, finished or not.
        scored: Its finished eval cells, one for each row of `scores`.
        questions: What each column of `scores` asks.
        scores: [seeds, questions], 0..1; NaN where the answer failed or was not asked for.
        truncated: [seeds, questions]; True where the prompt had to be cut.
        achieved: Fraction of rows that were in fact updated, mean over seeds and steps, where the
            mask was chosen by mass and `sparsity` is only its upper bound.
    """

    section: Section
    strategy: str
    sparsity: float | None
    variant: Mapping[str, str]
    cells: tuple[TrackedCell, ...]
    scored: tuple[TrackedCell, ...]
    questions: tuple[Question, ...]
    scores: Floats
    truncated: NDArray[np.bool_]
    achieved: float | None = None

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """The seed of each row of `scores`; None for the untrained model."""
        return tuple(cell.seed for cell in self.scored)

    @property
    def name(self) -> str:
        """The strategy with its variant, for people."""
        extra = ", ".join(f"{key}={value}" for key, value in sorted(self.variant.items()))
        return f"{self.strategy} ({extra})" if extra else self.strategy

    @property
    def amount(self) -> str:
        """The sparsity for people; the achieved one where the mask was chosen by mass."""
        if self.sparsity is None:
            return "n/a"
        return f"{self.sparsity:g}" if self.achieved is None else f"{self.achieved:.2f} achieved"

    @property
    def n_failed(self) -> int:
        """How many answers failed (or were not asked of every seed)."""
        return int(np.isnan(self.scores).sum())

    @property
    def pooled(self) -> bool:
        """Whether the score weighs questions equally, not tasks."""
        return self.section.benchmark in POOLED

    @property
    def n_missing(self) -> int:
        """How many of the arm's cells have no scores."""
        return len(self.cells) - len(self.scored)


def counterpart(arm: Arm, arms: Iterable[Arm], strategy: str) -> Arm | None:
    """Return the arm to compare with: same section, same settings, another mask strategy.

    The sparsity must agree too, unless the strategy has only one.
    """
    for other in arms:
        same = other.section == arm.section and other.strategy == strategy
        level = strategy in ONE_LEVEL or other.sparsity == arm.sparsity
        if same and level and other.variant.items() <= arm.variant.items():
            return other
    return None


@lru_cache(maxsize=4096)
def estimate_score(arm: Arm, part: Part | None = None) -> Estimate | None:
    """Return the arm's score on all questions or on `part`, 0..1; None where nothing is finished.

    Tasks and lengths have equal weight, except where the benchmark averages over questions.
    """
    columns = part_columns(arm, part)
    if not columns or not arm.scored:
        return None
    strata = _strata([arm.questions[i] for i in columns], arm.section.benchmark)
    return score_estimate(arm.scores[:, columns], strata, rng=_generator())


def part_columns(arm: Arm, part: Part | None) -> list[int]:
    """Return which columns of the arm's matrices belong to `part`; all for None."""
    return [i for i, question in enumerate(arm.questions) if part is None or part(question)]


@lru_cache(maxsize=4096)
def estimate_difference(left: Arm, right: Arm, part: Part | None = None) -> Estimate | None:
    """Return score(left) - score(right) on the questions both were asked; None without any.

    Seeds are matched where the arms share some; only those are then used.
    """
    shared = sorted(set(left.questions) & set(right.questions))
    shared = [question for question in shared if part is None or part(question)]
    if not shared or not left.scored or not right.scored:
        return None
    seeds = [seed for seed in left.seeds if seed in right.seeds]
    a, b = (
        _columns(left, shared, seeds or left.seeds),
        _columns(right, shared, seeds or right.seeds),
    )
    strata = _strata(shared, left.section.benchmark)
    return difference_estimate(a, b, strata, same_seeds=bool(seeds), rng=_generator())


def _generator() -> np.random.Generator:
    """A fresh generator per estimate: a number does not depend on which others a table holds."""
    return np.random.default_rng(RESAMPLING_SEED)


def _columns(arm: Arm, questions: Iterable[Question], seeds: Iterable[int | None]) -> Floats:
    place = {question: i for i, question in enumerate(arm.questions)}
    rows = [arm.seeds.index(seed) for seed in seeds]
    chosen: Floats = arm.scores[np.ix_(rows, [place[question] for question in questions])]
    return chosen


def _strata(questions: Iterable[Question], benchmark: str) -> Ints:
    pooled = benchmark in POOLED
    keys = [("" if pooled else q.task, q.context_length) for q in questions]
    number = {key: i for i, key in enumerate(sorted(set(keys)))}
    return np.asarray([number[key] for key in keys], dtype=np.int64)
