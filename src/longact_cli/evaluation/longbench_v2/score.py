"""LongBench v2's answer extraction and its score columns.

Source: THUDM/LongBench 2e00731, pred.py (`extract_answer`) and result.py. The official table holds
percentages rounded to one decimal; here scores are fractions and not rounded.
"""

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

Scorer = Literal["official", "compensated"]

SCORERS: tuple[Scorer, ...] = ("official", "compensated")
SCORER_VERSION = "longbench-v2-2e00731"
METRIC = "accuracy"
LETTERS = ("A", "B", "C", "D")
DIFFICULTIES = ("easy", "hard")
LENGTHS = ("short", "medium", "long")

_GUESS = 0.25
_PATTERNS = (
    re.compile(r"The correct answer is \(([A-D])\)"),
    re.compile(r"The correct answer is ([A-D])"),
)


class Judged(NamedTuple):
    """One answered question; `parsed` is None where no answer was found in the completion."""

    parsed: str | None
    difficulty: str
    length: str
    domain: str | None = None


class Column(NamedTuple):
    """One score of the official table, in 0..1; None where no sample belongs to it."""

    name: str
    score: float | None
    n: int


def extract_answer(completion: str) -> str | None:
    """Return the letter that the completion settles on, or None.

    Asterisks are dropped, case matters, the first match counts, and the form with parentheses wins
    wherever it stands. The form without them reads `The correct answer is Because` as B.
    """
    text = completion.replace("*", "")
    for pattern in _PATTERNS:
        if match := pattern.search(text):
            return match.group(1)
    return None


def score_answer(parsed: str | None, answer: str, *, scorer: Scorer = "official") -> float:
    """Return 1 for the right letter, else 0; `compensated` gives an unparsed answer 1/4."""
    if parsed is None and scorer == "compensated":
        return _GUESS
    return float(parsed == answer)


def score_table(judged: Sequence[Judged], scores: Sequence[float]) -> tuple[Column, ...]:
    """Return overall, easy, hard, short, medium, long, then every domain, then `unparsed`.

    `unparsed` is the share of answers without a letter, not a score.

    Args:
        judged: All answered questions.
        scores: Their scores, in the same order.
    """
    pairs = list(zip(judged, scores, strict=True))
    domains = sorted({row.domain for row in judged if row.domain is not None})
    return (
        _mean("overall", scores),
        *(_mean(x, [score for row, score in pairs if row.difficulty == x]) for x in DIFFICULTIES),
        *(_mean(x, [score for row, score in pairs if row.length == x]) for x in LENGTHS),
        *(_mean(x, [score for row, score in pairs if row.domain == x]) for x in domains),
        _mean("unparsed", [float(row.parsed is None) for row in judged]),
    )


def _mean(name: str, values: Sequence[float]) -> Column:
    return Column(name, sum(values) / len(values) if values else None, len(values))
