"""The answer of a model that thinks first."""

THOUGHTS_END = "</think>"


def without_thoughts(completion: str) -> str:
    """Return what follows the last end of thinking; a completion without one is all answer.

    Thoughts that were cut by their budget have no end: they are then read as the answer, as the
    official scorers do.
    """
    return completion.rpartition(THOUGHTS_END)[2]
