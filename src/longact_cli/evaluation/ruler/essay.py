"""Needles in essays: single, many keys, many values, many queries.

Source: NVIDIA/RULER c3f5e3b, scripts/data/synthetic/niah.py with `type_haystack: essay`: the first
words of the essays, again from the start where they end, with needles between sentences at random
depths. Differences: sentences are split by a rule and not by a trained model, which only moves a
needle's place; every sample has its own random stream; keys are distinct.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import NamedTuple

import numpy as np

from longact_cli.evaluation.ruler.draft import Draft, Prediction
from longact_cli.evaluation.ruler.frame import PromptFrame
from longact_cli.evaluation.ruler.niah import draw_key, draw_value
from longact_cli.evaluation.ruler.templates import (
    NEEDLE,
    NIAH_PREFIX,
    NIAH_SINGLE_PREFIX,
    NIAH_SINGLE_TEMPLATE,
    NIAH_TEMPLATE,
    NiahTask,
)
from longact_cli.evaluation.ruler.words import Split

DEPTHS = tuple(int(depth) for depth in np.round(np.linspace(0, 100, num=40)))
"""Where needles may stand, in percent of the sentences."""
_SENTENCE_END = re.compile(r"[.!?][\"')\]\u2019\u201d]*$")
_SPARE_WORDS = 8
_ABBREVIATIONS = frozenset({"Mr.", "Mrs.", "Ms.", "Dr.", "St.", "vs.", "e.g.", "i.e.", "etc."})


class Essays:
    """The essays' words in order, and what of them has been measured. Lengths in words.

    Beyond the last word the first one follows again. Only as many words as a length needs are
    looked at.
    """

    def __init__(self, words: Sequence[str]) -> None:
        """Keep the words."""
        self.words = tuple(words)
        self._text = " ".join(self.words)
        lengths = np.fromiter(map(len, self.words), dtype=np.int64, count=len(self.words))
        self._starts = np.concatenate([[0], np.cumsum(lengths + 1)])  # of words, in the text
        self._scanned = 0
        self._ends: list[int] = []  # numbers of words after which a sentence ends
        self._frame: PromptFrame | None = None
        self._sums = _Sums(np.zeros(1, dtype=np.int64))

    def slice(self, first: int, last: int) -> str:
        """Return the words from `first` up to, and without, `last`."""
        size = len(self.words)
        if first == last:
            return ""
        if first // size == (last - 1) // size:
            start = first % size
            return self._text[self._starts[start] : self._starts[start + last - first] - 1]
        border = (first // size + 1) * size
        return " ".join([self.slice(first, border), self.slice(border, last)])

    def word(self, number: int) -> str:
        """Return one word."""
        return self.words[number % len(self.words)]

    def sentences(self, words: int) -> int:
        """Return how many sentences the first `words` words hold; a cut one counts."""
        whole = self._whole(words)
        return whole + (self._end(whole) < words)

    def sentence_start(self, sentence: int, words: int) -> int:
        """Return the number of words before a sentence of the first `words` words."""
        return words if sentence > self._whole(words) else self._end(sentence)

    def _whole(self, words: int) -> int:
        rounds, rest = divmod(words, len(self.words))
        self._scan(len(self.words) if rounds else rest)
        return rounds * len(self._ends) + bisect_right(self._ends, rest)

    def _scan(self, words: int) -> None:
        """Find the ends of sentences among the first words of a round."""
        for number in range(self._scanned, words):
            word = self.words[number]
            if _SENTENCE_END.search(word) and word not in _ABBREVIATIONS:
                self._ends.append(number + 1)
        self._scanned = max(self._scanned, words)

    def _end(self, sentence: int) -> int:
        """Return the words up to the end of a sentence that has been scanned."""
        if sentence == 0:
            return 0
        if sentence <= len(self._ends):
            return self._ends[sentence - 1]
        rounds, place = divmod(sentence - 1, len(self._ends))
        return rounds * len(self.words) + self._ends[place]

    def tokens(self, frame: PromptFrame, words: int) -> "_Sums":
        """Return the tokens of at least the first `words` words, each with a blank before it."""
        wanted = min(words, len(self.words))
        known = len(self._sums.round) - 1 if self._frame is frame else 0
        if wanted > known:
            counts = frame.counts([f" {word}" for word in self.words[:wanted]])
            self._frame, self._sums = frame, _Sums(np.concatenate([[0], np.cumsum(counts)]))
        return self._sums


class _Sums(NamedTuple):
    """Tokens of the first n words of one round, for n = 0 to the last one measured."""

    round: "np.ndarray[tuple[int], np.dtype[np.int64]]"

    def of(self, words: int) -> int:
        """Return the tokens of the first `words` words."""
        rounds, rest = divmod(words, len(self.round) - 1)
        return rounds * int(self.round[-1]) + int(self.round[rest])

    def within(self, tokens: int) -> int:
        """Return how many words have at most `tokens` tokens together."""
        rounds, rest = divmod(max(0, tokens), int(self.round[-1]))
        words = int(np.searchsorted(self.round, rest, side="right")) - 1
        return rounds * (len(self.round) - 1) + words


class _Question(NamedTuple):
    """Everything about a question but the size of its essay."""

    head: str
    tail: str
    needles: tuple[str, ...]
    depths: tuple[int, ...]
    """Ascending, one for each needle."""


def essay_draft(task: NiahTask, rng: Random, *, split: Split, essays: Essays) -> Draft:
    """Draw one question: keys, values, and where their needles stand."""
    keys: list[str] = []
    while len(keys) < max(task.keys, task.queries):
        key = draw_key(task, rng, split=split)
        if key not in keys:
            keys.append(key)
    values = [[draw_value(task, rng, split=split) for _ in range(task.values)] for _ in keys]
    needles = [
        NEEDLE.format(kind=task.value_kind, key=key, value=value)
        for key, held in zip(keys, values, strict=True)
        for value in held
    ]
    rng.shuffle(needles)
    depths = tuple(sorted(rng.sample(DEPTHS, len(needles))))
    asked = rng.sample(range(len(keys)), task.queries)
    query = _enumeration([keys[place] for place in asked])
    single = task.queries * task.values == 1
    template, prefix = (
        (NIAH_SINGLE_TEMPLATE, NIAH_SINGLE_PREFIX) if single else (NIAH_TEMPLATE, NIAH_PREFIX)
    )
    kind = task.value_kind.removesuffix("s") if single else task.value_kind
    head, tail = template.format(kind=kind, context="\0", query=query).split("\0")
    question = _Question(head, tail, tuple(needles), depths)
    prefix = prefix.format(kind=kind, query=query)
    return Draft(
        minimum=1,
        message=lambda words: head + " ".join(_parts(question, essays, words)) + tail,
        prefix=prefix,
        references=tuple(value for place in asked for value in values[place]),
        measure=lambda frame, budget: _measure(question, essays, frame, budget, prefix=prefix),
    )


def _enumeration(keys: list[str]) -> str:
    return keys[0] if len(keys) == 1 else f"{', '.join(keys[:-1])}, and {keys[-1]}"


def _starts(question: _Question, essays: Essays, words: int) -> list[int]:
    """Return before which word each needle stands."""
    sentences = essays.sentences(words)
    return [
        essays.sentence_start(int(sentences * (depth / 100)), words) for depth in question.depths
    ]


def _parts(question: _Question, essays: Essays, words: int) -> list[str]:
    """Return essay text and needles in turn. A text may be empty, its blanks stay, as upstream."""
    borders = [0, *_starts(question, essays, words), words]
    texts = [essays.slice(first, last) for first, last in pairwise(borders)]
    woven = [part for pair in zip(texts, question.needles, strict=False) for part in pair]
    return [*woven, texts[-1]]


def _measure(
    question: _Question, essays: Essays, frame: PromptFrame, budget: int, *, prefix: str
) -> Prediction | None:
    """Return the most words that should fit.

    Every piece starts with its blank, where pre-tokenizers cut; only the edges are encoded anew.
    """
    sums = essays.tokens(frame, budget + _SPARE_WORDS)  # a word has one token or more
    fixed = frame.opening(frame.surroundings[0] + question.head)
    tail = question.tail + frame.ending(prefix)

    def total(words: int) -> int:
        starts = _starts(question, essays, words)
        edges = 0
        for number, (start, needle) in enumerate(zip(starts, question.needles, strict=True)):
            crowded = number > 0 and starts[number - 1] == start
            edges += frame.count(f"{'  ' if crowded else ' '}{needle}")
        first, last = f" {essays.word(0)}", f" {essays.word(words - 1)}"
        if starts[0] > 0:
            edges += frame.count(first[1:]) - frame.count(first)
        if starts[-1] < words:
            edges += frame.count(last + tail) - frame.count(last)
        else:
            needle = f" {question.needles[-1]}"
            edges += frame.count(f"{needle} {tail}") - frame.count(needle)
        return fixed + sums.of(words) + edges

    words = max(1, sums.within(budget - total(1) + sums.of(1)))
    while words > 1 and total(words) > budget:
        words -= 1
    while total(words + 1) <= budget:
        words += 1
    tokens = total(words)
    return Prediction(words, tokens) if tokens <= budget else None
