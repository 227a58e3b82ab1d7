"""How often each question and each seed is drawn in every resample: the bootstrap's weights.

Weights depend on the generator's state, on the strata and on the documents, not on the scores. Arms
that answered the same questions and are given equal generators share them, so that a table of many
arms draws once.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
_CHUNK_NUMBERS = 1 << 21

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def question_weights(
    strata: Ints, documents: Ints | None, *, rng: np.random.Generator
) -> Iterator[Floats]:
    """Yield how often each question is drawn, in chunks of resamples, [n, questions].

    Questions are drawn with replacement within their stratum. Where questions share a document,
    documents are drawn as a whole: within the stratum where no document reaches into two, else from
    all documents.

    Args:
        strata: Stratum of each question, [questions].
        documents: Document of each question, [questions]; None where each has its own.
        rng: Only its next integer is used.
    """
    key = int(rng.integers(2**62))
    chunk = max(1, _CHUNK_NUMBERS // max(1, len(strata)))
    units = None if documents is None else _as_int64(documents).tobytes()
    for start in range(0, RESAMPLES, chunk):
        n = min(chunk, RESAMPLES - start)
        yield _drawn(key + start, _as_int64(strata).tobytes(), units, n)


def seed_weights(seeds: int, n: int, rng: np.random.Generator) -> Floats:
    """Return how often each seed is drawn, [n, seeds]; a single seed is always drawn."""
    return _counts(rng, n, seeds)


@lru_cache(maxsize=8)
def _drawn(key: int, strata: bytes, documents: bytes | None, n: int) -> Floats:
    """Draw one chunk; the arrays come as bytes so that equal ones are found again."""
    rng = np.random.default_rng(key)
    kinds = np.frombuffer(strata, dtype=np.int64)
    if documents is None:
        weights = _within(kinds, n, rng)
    else:
        units = np.unique(np.frombuffer(documents, dtype=np.int64), return_inverse=True)[1]
        weights = _unit_weights(units, kinds, n, rng)[:, units]
    weights.flags.writeable = False
    return weights


def _unit_weights(units: Ints, kinds: Ints, n: int, rng: np.random.Generator) -> Floats:
    low = np.full(units.max() + 1, np.iinfo(np.int64).max)
    high = np.full(units.max() + 1, np.iinfo(np.int64).min)
    np.minimum.at(low, units, kinds)
    np.maximum.at(high, units, kinds)
    if np.array_equal(low, high):
        return _within(low, n, rng)
    return _counts(rng, n, len(low))


def _within(kinds: Ints, n: int, rng: np.random.Generator) -> Floats:
    weights = np.empty((n, len(kinds)))
    for kind in np.unique(kinds):
        places = np.flatnonzero(kinds == kind)
        weights[:, places] = _counts(rng, n, len(places))
    return weights


def _counts(rng: np.random.Generator, n: int, size: int) -> Floats:
    """Draw `size` of `size` with replacement, `n` times; return the counts, [n, size]."""
    drawn = rng.integers(size, size=(n, size)) + size * np.arange(n)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=n * size)
    return counts.reshape(n, size).astype(np.float64)


def _as_int64(numbers: Ints) -> Ints:
    return np.ascontiguousarray(numbers, dtype=np.int64)
