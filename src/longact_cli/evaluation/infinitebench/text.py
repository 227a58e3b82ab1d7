"""InfiniteBench's ways to compare texts: overlap F1 in English and Chinese, and rougeLsum.

Source: OpenBMB/InfiniteBench 88b3daa, src/compute_scores.py (`normalize_answer`,
`normalize_zh_answer`, `qa_f1_score`, `qa_f1_score_zh`, `get_score_one_longbook_sum_eng`).
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_ENGLISH_PUNCTUATION = frozenset(string.punctuation)

# The official list of Chinese punctuation as ranges of code points, ends included. It lacks the
# opening bracket of 300A and the two of 3008 and 3009.
_CHINESE_RANGES = (
    (0xFF01, 0xFF0D),
    (0xFF0F, 0xFF0F),
    (0xFF1A, 0xFF20),
    (0xFF3B, 0xFF40),
    (0xFF5B, 0xFF64),
    (0x3001, 0x3003),
    (0x300B, 0x3011),
    (0x3014, 0x301F),
    (0x3030, 0x3030),
    (0x303E, 0x303F),
    (0x2013, 0x2014),
    (0x2018, 0x2019),
    (0x201B, 0x201F),
    (0x2026, 0x2027),
    (0xFE4F, 0xFE4F),
)
_CHINESE_PUNCTUATION = _ENGLISH_PUNCTUATION | {
    chr(point) for first, last in _CHINESE_RANGES for point in range(first, last + 1)
}


def english_tokens(text: str) -> list[str]:
    """Return the words in lower case, without punctuation and articles."""
    bare = "".join(letter for letter in text.lower() if letter not in _ENGLISH_PUNCTUATION)
    return _ARTICLES.sub(" ", bare).split()


def chinese_tokens(text: str) -> list[str]:
    """Return the characters in lower case, without punctuation and blanks."""
    bare = "".join(letter for letter in text.lower() if letter not in _CHINESE_PUNCTUATION)
    return list("".join(bare.split()))


def best_f1(prediction: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Return the largest F1 of token overlap over the references, in 0..1."""
    return max((_f1(prediction, reference) for reference in references), default=0.0)


def _f1(prediction: Sequence[str], reference: Sequence[str]) -> float:
    common = sum((Counter(prediction) & Counter(reference)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(prediction), common / len(reference)
    return (2 * precision * recall) / (precision + recall)


def best_rouge_lsum(prediction: str, references: Sequence[str]) -> float:
    """Return the largest rougeLsum F1 over the references, in 0..1, without stemming.

    Sentences are lines; words are runs of a-z and 0-9 in lower case, so Chinese text scores 0.
    """
    return float(_rouge().score_multi(references, prediction)["rougeLsum"].fmeasure)


@cache
def _rouge() -> "RougeScorer":
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeLsum"], use_stemmer=False)
