"""Common words: a numbered list in which ten words occur ten times as often as the others.

Source: NVIDIA/RULER c3f5e3b, scripts/data/synthetic/common_words_extraction.py, with its solved
example. Differences: every sample has its own random stream; the ten words come from the key split,
so that no training answer is an evaluation answer. Where a length needs more words than the lists
hold, the official code draws all of them from a file of its repository (json/english_words.json);
here the words of that file follow those of the lists if `--data-dir` has it, else compounds of two
nouns do.
"""

from collections.abc import Callable, Sequence
from functools import cache
from random import Random
from typing import NamedTuple

import numpy as np

from longact_cli.errors import ConfigError
from longact_cli.evaluation.ruler.draft import Draft, Prediction
from longact_cli.evaluation.ruler.frame import PromptFrame
from longact_cli.evaluation.ruler.templates import CWE_PREFIX, CWE_TEMPLATE
from longact_cli.evaluation.ruler.words import Split, is_train_key, word_list

_COMMON = 10
_SHORT_LENGTH = 4096
_FIRST_WORDS = 64
_STEPS = (1, 2, 3, 5, 7, 11, 13, 17)
_TOKENS_PER_ITEM = 3
"""A number, its dot and a word take at least as many tokens."""

Spare = Callable[[], Sequence[str]]


class Regime(NamedTuple):
    """How often words are repeated; short lengths have their own."""

    common: int
    uncommon: int
    example_words: int
    example_common: int
    example_uncommon: int


def regime(context_length: int) -> Regime:
    """Return the official repetitions at a context length."""
    return Regime(6, 1, 20, 3, 1) if context_length < _SHORT_LENGTH else Regime(30, 3, 40, 10, 3)


@cache
def cwe_words() -> tuple[str, ...]:
    """Return all nouns, adjectives and verbs of the word lists, sorted."""
    lists = (word_list(name) for name in ("nounlist.txt", "adjectivelist.txt", "verblist.txt"))
    return tuple(sorted({word for words in lists for word in words if word}))


@cache
def _answer_words(split: Split) -> tuple[str, ...]:
    return tuple(word for word in cwe_words() if is_train_key(word) == (split == "train"))


class MoreWords:
    """The uncommon words of a question in order; words beyond the lists only if they are needed."""

    def __init__(self, words: list[str], *, seed: int, most: int, spare: Spare) -> None:
        """Keep the words of the lists, and how many there may be at most."""
        self._words, self._listed = words, len(words)
        self._seed, self._most, self._spare = seed, most, spare

    def first(self, count: int, *, after: int = 0) -> list[str]:
        """Return this many words, or as many as there are.

        Words beyond the lists join only where all of the lists are in use: `after` says how many.
        """
        if after < self._listed:
            count = min(count, self._listed)
        elif len(self._words) == self._listed < self._most:
            taken = set(cwe_words())
            more = [word for word in self._spare() if word not in taken]
            Random(f"{self._seed}/spare").shuffle(more)
            self._words = [*self._words, *more[: self._most - self._listed]]
        return self._words[:count]


def compounds() -> tuple[str, ...]:
    """Return some ten thousands of words made of two nouns, always the same ones."""
    nouns = [noun for noun in word_list("nounlist.txt") if noun.isalpha()]
    shifted = (nouns[step:] + nouns[:step] for step in _STEPS)
    return tuple(
        dict.fromkeys(a + b for others in shifted for a, b in zip(nouns, others, strict=True))
    )


def cwe_draft(context_length: int, rng: Random, *, split: Split, spare: Spare = compounds) -> Draft:
    """Draw ten common words, an order of all others, and the solved example.

    Args:
        context_length: Decides how often words are repeated.
        rng: Stream of the sample.
        split: Half of all words from which the common ones come.
        spare: Returns the words beyond the lists.
    """
    repeats = regime(context_length)
    common = rng.sample(_answer_words(split), _COMMON)
    taken = set(common)
    others = [word for word in cwe_words() if word not in taken]
    most = context_length // (_TOKENS_PER_ITEM * repeats.uncommon) + 1
    example = _example(rng.sample(cwe_words(), repeats.example_words), repeats, rng)
    listed = rng.sample(others, min(len(others), most))
    seed = rng.getrandbits(64)
    uncommon = MoreWords(listed, seed=seed, most=most, spare=spare)
    head, tail = CWE_TEMPLATE.format(context="\0").split("\0")

    def message(words: int) -> str:
        drawn = [
            *common * repeats.common,
            *uncommon.first(words - _COMMON, after=words - _COMMON - 1) * repeats.uncommon,
        ]
        Random(seed).shuffle(drawn)
        return example + "\n" + head + numbered(drawn) + tail

    return Draft(
        minimum=_COMMON + 1,
        message=message,
        prefix=CWE_PREFIX,
        references=tuple(common),
        measure=lambda frame, budget: _measure(
            frame, budget, example=example, words=(common, uncommon), repeats=repeats
        ),
    )


def numbered(words: Sequence[str]) -> str:
    """Return `1. word 2. word ...`."""
    return " ".join([f"{number}. {word}" for number, word in enumerate(words, 1)])


def _example(words: list[str], repeats: Regime, rng: Random) -> str:
    """Return a solved example."""
    common, others = words[:_COMMON], words[_COMMON:]
    drawn = [*common * repeats.example_common, *others * repeats.example_uncommon]
    rng.shuffle(drawn)
    shown = CWE_TEMPLATE.format(context=numbered(drawn)) + CWE_PREFIX
    return f"{shown} {numbered(common)}"


def _measure(
    frame: PromptFrame,
    budget: int,
    *,
    example: str,
    words: tuple[list[str], MoreWords],
    repeats: Regime,
) -> Prediction | None:
    """Return the most different words that should fit.

    Raises:
        ConfigError: All words of the lists fit: there are too few.
    """
    common, uncommon = words
    before, ending = frame.surroundings[0], frame.ending(CWE_PREFIX)
    head, tail = CWE_TEMPLATE.format(context="\0").split("\0")
    last = " word"  # any: only what follows its last letter matters
    edges = frame.count("1.") - frame.count(" 1.")
    edges += frame.count(last + tail + ending) - frame.count(last)
    fixed = _example_tokens(frame, before, example, head) + edges
    fixed += repeats.common * sum(frame.counts([f" {word}" for word in common]))
    totals, measured = np.array([fixed]), _FIRST_WORDS
    while totals[-1] <= budget:
        others = uncommon.first(measured, after=len(totals) - 1)
        if len(others) < len(totals):
            break
        counts = np.array(frame.counts([f" {word}" for word in others]))
        items = repeats.common * _COMMON + repeats.uncommon * np.arange(len(counts) + 1)
        numbers = frame.numbers(int(items[-1]))[items]
        totals = fixed + numbers + repeats.uncommon * np.concatenate([[0], np.cumsum(counts)])
        measured *= 4
    fitting = int(np.searchsorted(totals, budget, side="right")) - 1
    if fitting < 1:
        return None
    if totals[-1] <= budget:
        raise ConfigError(
            f"benchmark.context_lengths is too large for cwe: all {len(totals) - 1} words take "
            f"{totals[-1]} tokens; choose a smaller length or leave cwe out"
        )
    return Prediction(_COMMON + fitting, int(totals[fitting]))


def _example_tokens(frame: PromptFrame, before: str, example: str, head: str) -> int:
    """Sum the example's tokens from pieces that other examples have too."""
    first, listed = example.split("\n", 2)[:2]
    rest = example[len(first) + 1 + len(listed) :] + "\n" + head
    question, _, answer = rest.partition(CWE_PREFIX)
    answer, _, tail = answer.partition("\n")
    pieces = [piece for text in (f" {listed}", answer) for piece in _pieces(text)]
    fixed = frame.opening(f"{before}{first}\n") + frame.count("1.") - frame.count(" 1.")
    return fixed + sum(frame.counts([*pieces, question + CWE_PREFIX, f"\n{tail}"]))


def _pieces(text: str) -> list[str]:
    return [f" {piece}" for piece in text.split(" ")[1:]]
