"""Single questions for the HTML report: what each arm answered, disagreements first, bounded."""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np

from longact_cli.reporting.arms import Arm, Question
from longact_cli.reporting.frame import Study
from longact_cli.reporting.grouping import collect_arms
from longact_cli.results import SampleResult
from longact_cli.tracking.artifacts import each
from longact_cli.tracking.query import read_samples

MOST_QUESTIONS = 120
"""Per report, shared out between its sections."""
MOST_ARMS = 12
MOST_CHARACTERS = 240


class Answer(NamedTuple):
    """One arm's answer; `score` is the mean over its seeds, None where all of them failed."""

    arm: str
    score: float | None
    text: str


class AskedQuestion(NamedTuple):
    """One question with the answers of all arms."""

    name: str
    expected: str
    answers: tuple[Answer, ...]


class QuestionGroup(NamedTuple):
    """The questions shown of one section."""

    title: str
    note: str
    questions: tuple[AskedQuestion, ...]


def pick_questions(uri: str, study: Study) -> tuple[QuestionGroup, ...]:
    """Return the questions on which arms differ most, for each section with answers.

    Texts are those of the first seed; at most `MOST_ARMS` runs per section are read for them.

    Raises:
        TrackingError: MLflow failed.
    """
    groups = [
        (head.title, [arm for arm in group if arm.seeds][:MOST_ARMS])
        for head, group in groupby(collect_arms(study), key=lambda arm: arm.section)
    ]
    groups = [(title, arms) for title, arms in groups if arms]
    share = max(4, MOST_QUESTIONS // max(1, len(groups)))
    most = MOST_QUESTIONS // share
    return tuple(_group(uri, study, title, arms, share) for title, arms in groups[:most])


def _group(uri: str, study: Study, title: str, arms: Sequence[Arm], most: int) -> QuestionGroup:
    means = _means(arms)
    spread = {name: np.ptp([x for x in row if x == x] or [0.0]) for name, row in means.items()}
    chosen = sorted(means, key=lambda question: (-spread[question], question))[:most]
    texts = each(uri, lambda arm: _texts(uri, study, arm, chosen), arms)
    questions = tuple(_asked(question, arms, means[question], texts) for question in chosen)
    note = f"{len(questions)} of {len(means)} questions, those on which arms differ most first."
    return QuestionGroup(title, note, questions)


def _means(arms: Sequence[Arm]) -> dict[Question, list[float]]:
    """Return the mean over seeds of each arm on each question; NaN where it has no answer."""
    found: dict[Question, list[float]] = {}
    for i, arm in enumerate(arms):
        valid = ~np.isnan(arm.scores)
        sums = np.where(valid, arm.scores, 0.0).sum(axis=0)
        counts = valid.sum(axis=0)
        for question, total, count in zip(arm.questions, sums, counts, strict=True):
            row = found.setdefault(question, [float("nan")] * len(arms))
            row[i] = float(total / count) if count else float("nan")
    return found


def _texts(
    uri: str, study: Study, arm: Arm, questions: Sequence[Question]
) -> dict[str, SampleResult]:
    cell = arm.scored[0]
    if cell.run_id is None:
        return {}
    wanted = {question.sample for question in questions}
    answers = read_samples(uri, study.places.get(cell.digest, study.name), cell.run_id)
    return {answer.id: answer for answer in answers if answer.id in wanted}


def _asked(
    question: Question,
    arms: Sequence[Arm],
    means: Sequence[float],
    texts: Sequence[dict[str, SampleResult]],
) -> AskedQuestion:
    answers = []
    expected = ""
    for arm, mean, known in zip(arms, means, texts, strict=True):
        sample = known.get(question.sample)
        if sample is not None:
            expected = expected or cut(" | ".join(sample.references))
        name = arm.name if arm.sparsity is None else f"{arm.name} {arm.amount}"
        answers.append(Answer(name, None if mean != mean else mean, _shown(sample)))
    return AskedQuestion(question.sample, expected, tuple(answers))


def _shown(sample: SampleResult | None) -> str:
    if sample is None:
        return ""
    return cut(f"error: {sample.error}" if sample.completion is None else sample.completion)


def cut(text: str) -> str:
    """Return the text on one line, at most `MOST_CHARACTERS` long."""
    line = " ".join(text.split())
    return line if len(line) <= MOST_CHARACTERS else line[: MOST_CHARACTERS - 1] + "…"
