"""An arm: the seeds of one setting with their answers as one matrix, its score, its differences."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from longact_cli.plan import BASE_ARM
from longact_cli.reporting.statistics import (
    Comparison,
    Estimate,
    Floats,
    Ints,
    Pairing,
    compare_scores,
    score_estimate,
)
from longact_cli.tracking.query import TrackedCell

RESAMPLING_SEED = 20260414
# These masks have one level: a comparison with them does not ask for an equal sparsity.
ONE_LEVEL = (BASE_ARM, "dense", "frozen")
POOLED = ("longbench-v2",)
"""Benchmarks whose official score is the mean over all questions, whatever their kind."""

Stratum = tuple[str, int]


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
        seeds: Seed of each row of `scores`; None for the untrained model.
        questions: What each column of `scores` asks.
        scores: [seeds, questions], 0..1; NaN where the answer failed or was not asked for.
        n_truncated: Answers whose prompt had to be cut.
        documents: Document of each column, empty where the question has its own; () if none share.
        scored: Its finished eval cells, one for each row of `scores`.
        truncated: Whether the prompt had to be cut, [seeds, questions]; None: none was.
        achieved: Fraction of rows that were in fact updated, mean over seeds and steps, where the
            mask was chosen by mass and `sparsity` is only its upper bound.
    """

    section: Section
    strategy: str
    sparsity: float | None
    variant: Mapping[str, str]
    cells: tuple[TrackedCell, ...]
    seeds: tuple[int | None, ...]
    questions: tuple[Question, ...]
    scores: Floats
    n_truncated: int
    documents: tuple[str, ...] = ()
    scored: tuple[TrackedCell, ...] = ()
    truncated: NDArray[np.bool_] | None = None
    achieved: float | None = None

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
        return len(self.cells) - len(self.seeds)


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
    if not columns or not arm.seeds:
        return None
    questions = [arm.questions[i] for i in columns]
    return score_estimate(
        arm.scores[:, columns],
        strata_of(arm.section.benchmark, questions),
        rng=resampling(),
        documents=documents_of(arm, questions),
    )


def part_columns(arm: Arm, part: Part | None) -> list[int]:
    """Return which columns of the arm's matrices belong to `part`; all for None."""
    return [i for i, question in enumerate(arm.questions) if part is None or part(question)]


def estimate_difference(left: Arm, right: Arm, part: Part | None = None) -> Estimate | None:
    """Return score(left) - score(right) on the questions both were asked; None without any."""
    found = compare(left, right, part)
    return None if found is None else found.estimate


@lru_cache(maxsize=4096)
def compare(left: Arm, right: Arm, part: Part | None = None) -> Comparison | None:
    """Return score(left) - score(right) with interval and test; None without shared questions.

    Seeds are matched where the arms share some; only those are then used. Without a family there is
    no `p_holm`.
    """
    shared = sorted(set(left.questions) & set(right.questions))
    shared = [question for question in shared if part is None or part(question)]
    if not shared or not left.seeds or not right.seeds:
        return None
    seeds = [seed for seed in left.seeds if seed in right.seeds]
    pairing = Pairing(
        strata_of(left.section.benchmark, shared),
        documents_of(left, shared),
        same_seeds=bool(seeds),
    )
    return compare_scores(
        scores_of(left, shared, seeds or left.seeds),
        scores_of(right, shared, seeds or right.seeds),
        pairing,
        rng=resampling(),
    )


def resampling() -> np.random.Generator:
    """A fresh generator per estimate: a number does not depend on which others a table holds."""
    return np.random.default_rng(RESAMPLING_SEED)


def scores_of(arm: Arm, questions: Iterable[Question], seeds: Iterable[int | None]) -> Floats:
    """Return the arm's scores on these questions with these seeds, [seeds, questions]."""
    place = {question: i for i, question in enumerate(arm.questions)}
    rows = [arm.seeds.index(seed) for seed in seeds]
    chosen: Floats = arm.scores[np.ix_(rows, [place[question] for question in questions])]
    return chosen


def strata_of(benchmark: str, questions: Iterable[Question]) -> Ints:
    """Number each question's task and length, [questions]; 0 throughout where questions are pooled.

    A benchmark's score is the mean over tasks and lengths, or over all questions at once where its
    official score is.
    """
    keys = [() if benchmark in POOLED else question[:2] for question in questions]
    return _numbered(keys)


def documents_of(arm: Arm, questions: Sequence[Question]) -> Ints | None:
    """Number each question's document, [questions]; None where no two questions share one."""
    if not any(arm.documents):
        return None
    known = dict(zip(arm.questions, arm.documents, strict=True))
    keys = [
        (known.get(question, ""), () if known.get(question) else question) for question in questions
    ]
    return None if len(set(keys)) == len(keys) else _numbered(keys)


def _numbered(keys: Sequence[tuple[object, ...]]) -> Ints:
    number = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    return np.asarray([number[key] for key in keys], dtype=np.int64)
