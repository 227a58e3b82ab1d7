"""An arm: the seeds of one setting with their answers as one matrix, its score, its differences."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from longact_cli.plan import BASE_ARM
from longact_cli.reporting.stats import Estimate, Floats, Ints, difference_estimate, score_estimate
from longact_cli.tracking.query import TrackedCell

RESAMPLING_SEED = 20260414
POOLED = ("longbench-v2",)
"""Benchmarks whose official score is the mean over all questions, whatever their kind."""

Stratum = tuple[str, int]
Question = tuple[str, int, str]


class Section(NamedTuple):
    """What arms have in common that may be compared; `algorithm` is None without any training."""

    model: str
    algorithm: str | None
    benchmark: str

    @property
    def title(self) -> str:
        """The section's name for people."""
        return ", ".join(part for part in self if part)


@dataclass(frozen=True)
class Arm:
    """One setting with all its seeds.

    Attributes:
        strategy: The mask strategy, or `base` for the untrained model.
        sparsity: Fraction of query/key rows updated; None for the untrained model.
        variant: Other settings in which this arm differs from another one of the same name.
        cells: Its eval cells, finished or not.
        seeds: Seed of each row of `scores`; None for the untrained model.
        questions: (task, context length, question id) of each column.
        scores: [seeds, questions], 0..1; NaN where the answer failed.
        n_truncated: Answers whose prompt had to be cut.
        documents: Document of each column, empty where the question has its own; () if none share.
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

    @property
    def name(self) -> str:
        """The strategy with its variant, for people."""
        extra = ", ".join(f"{key}={value}" for key, value in sorted(self.variant.items()))
        return f"{self.strategy} ({extra})" if extra else self.strategy

    @property
    def n_missing(self) -> int:
        """How many of the arm's cells have no scores."""
        return len(self.cells) - len(self.seeds)


def counterpart(arm: Arm, arms: Iterable[Arm], strategy: str) -> Arm | None:
    """Return the arm to compare with: same section, same settings, another mask strategy.

    For `random` the sparsity must agree too.
    """
    for other in arms:
        same = other.section == arm.section and other.strategy == strategy
        level = strategy in (BASE_ARM, "dense") or other.sparsity == arm.sparsity
        if same and level and other.variant.items() <= arm.variant.items():
            return other
    return None


def estimate_score(arm: Arm, stratum: Stratum | None = None) -> Estimate | None:
    """Return the arm's score over all strata or in one, 0..1; None where nothing is finished."""
    columns = [i for i, q in enumerate(arm.questions) if stratum is None or q[:2] == stratum]
    if not columns or not arm.seeds:
        return None
    questions = [arm.questions[i] for i in columns]
    return score_estimate(
        arm.scores[:, columns],
        strata_of(arm.section.benchmark, questions),
        rng=resampling(),
        documents=documents_of(arm, questions),
    )


def estimate_difference(left: Arm, right: Arm) -> Estimate | None:
    """Return score(left) - score(right) on the questions both were asked; None without any.

    Seeds are matched where the arms share some; only those are then used.
    """
    shared = sorted(set(left.questions) & set(right.questions))
    if not shared or not left.seeds or not right.seeds:
        return None
    seeds = [seed for seed in left.seeds if seed in right.seeds]
    a, b = (
        scores_of(left, shared, seeds or left.seeds),
        scores_of(right, shared, seeds or right.seeds),
    )
    return difference_estimate(
        a,
        b,
        strata_of(left.section.benchmark, shared),
        same_seeds=bool(seeds),
        rng=resampling(),
        documents=documents_of(left, shared),
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
