"""Frequent words: which three coded words occur most often, apart from the dots?

Source: NVIDIA/RULER c3f5e3b, scripts/data/synthetic/freq_words_extraction.py: word number k occurs
n k^-2 / zeta(2) times, rounded down, and the most frequent one is `...`. Differences: every sample
has its own random stream, and the text is filled to the last word where the official steps of
1/32 of the length leave about 5 % free.
"""

import math
from collections.abc import Callable
from random import Random

import numpy as np
import numpy.typing as npt

from longact_cli.evaluation.ruler.draft import Draft, Prediction
from longact_cli.evaluation.ruler.frame import PromptFrame
from longact_cli.evaluation.ruler.templates import FWE_PREFIX, FWE_TEMPLATE
from longact_cli.evaluation.ruler.words import Split, draw_coded_word

_DOTS = "..."
_ZETA_2 = math.pi**2 / 6
_ASKED, _LETTERS, _TOKENS_PER_VOCABULARY_WORD = 3, 6, 50
_EDGE = 2
"""Tokens by which the last word and what follows it may merge."""
_MINIMUM = math.ceil((_ASKED + 1) ** 2 * _ZETA_2)
"""The smallest text in which all three answers occur."""


def fwe_draft(prompt_budget: int, rng: Random, *, split: Split) -> Draft:
    """Draw the coded words and the order of the text.

    Args:
        prompt_budget: Context length without the answer, in tokens; it sets the vocabulary's size.
        rng: Source of randomness.
        split: Half of all words to draw from.
    """
    size = max(_ASKED + 1, prompt_budget // _TOKENS_PER_VOCABULARY_WORD)
    vocabulary = _Vocabulary(size, Random(rng.getrandbits(64)), split)
    order_seed = rng.getrandbits(64)
    head, tail = FWE_TEMPLATE.format(context="\0").split("\0")
    head = head.removesuffix(" ")

    def text(size: int) -> list[str]:
        counts = word_counts(size, vocabulary.size)
        numbers = np.repeat(np.arange(len(counts)), counts)
        np.random.default_rng(order_seed).shuffle(numbers)
        words = vocabulary.first(len(counts))
        return [words[number] for number in numbers.tolist()]

    def measure(frame: PromptFrame, budget: int) -> Prediction | None:
        fixed = frame.opening(frame.surroundings[0] + head)
        ending = tail + frame.ending(FWE_PREFIX)

        def base(size: int) -> int:
            counts = word_counts(size, vocabulary.size)
            pieces = [f" {word}" for word in vocabulary.first(len(counts))]
            return fixed + int(np.dot(counts, frame.counts(pieces)))

        def total(size: int) -> int:
            last = f" {_DOTS}" if text(size)[-1] == _DOTS else " " + "a" * _LETTERS
            return base(size) + frame.count(last + ending) - frame.count(last)

        size = _largest(lambda size: base(size) + frame.count(ending) <= budget + _EDGE)
        if size < _MINIMUM:
            return None
        while size > _MINIMUM and total(size) > budget:
            size -= 1
        tokens = total(size)
        return Prediction(size, tokens) if tokens <= budget else None

    return Draft(
        minimum=_MINIMUM,
        message=lambda size: f"{head} {' '.join(text(size))}{tail}",
        prefix=FWE_PREFIX,
        references=tuple(vocabulary.first(_ASKED + 1)[1:]),
        measure=measure,
    )


def word_counts(size: int, vocabulary: int) -> npt.NDArray[np.int64]:
    """Return how often each word occurs, the most frequent first, as far as they do.

    Args:
        size: Words of the text before rounding down.
        vocabulary: Number of different words, at most.
    """
    ranks = np.arange(1, min(vocabulary, math.isqrt(size) + 1) + 1)
    counts = (size / (ranks.astype(np.float64) ** 2) / _ZETA_2).astype(np.int64)
    return counts[counts > 0]


def _largest(fits: Callable[[int], bool]) -> int:
    """Return the largest number for which `fits` holds, 0 where none does; it falls only once."""
    low, high = 0, 64
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


class _Vocabulary:
    """Distinct coded words in the order of their ranks, drawn as far as they are needed."""

    def __init__(self, size: int, rng: Random, split: Split) -> None:
        self.size, self._rng, self._split = size, rng, split
        self._words = [_DOTS]

    def first(self, count: int) -> list[str]:
        """Return the words of the first ranks; rank one is the dots."""
        while len(self._words) < count:
            word = draw_coded_word(self._rng, self._split, letters=_LETTERS)
            if word not in self._words:
                self._words.append(word)
        return self._words[:count]
