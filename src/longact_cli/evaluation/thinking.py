"""The answer of a model that thinks first."""

import re

THOUGHTS_END = "</think>"


def without_thoughts(completion: str) -> str:
    """Return what follows the last end of thinking; a completion without one is all answer.

    Thoughts that were cut by their budget have no end: they are then read as the answer, as the
    official scorers do.
    """
    return completion.rpartition(THOUGHTS_END)[2]


def is_empty(answer: str) -> bool:
    """Tell whether an answer holds nothing but blanks and control characters."""
    return re.fullmatch(r"[\s\x00-\x1f]*", answer) is not None
