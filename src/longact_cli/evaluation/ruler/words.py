"""RULER's keys and values, drawn from two disjoint halves: one to train on, one to evaluate on.

Source: the same word lists and shapes as NVIDIA/RULER c3f5e3b, scripts/data/synthetic/niah.py and
variable_tracking.py. The official code has no training half; here one hash bit splits every space
of strings, so that a prompt seen in training shares no key, value or variable with evaluation.
"""

import hashlib
import string
import uuid
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from random import Random
from typing import Literal

Split = Literal["train", "eval"]


@cache
def word_list(
    name: Literal["nounlist.txt", "adjectivelist.txt", "verblist.txt"],
) -> tuple[str, ...]:
    """Return one word list of the wonderwords package, in file order."""
    text = files("wonderwords.assets").joinpath(name).read_text(encoding="utf-8")
    return tuple(line.rstrip() for line in text.splitlines())


def is_train_key(text: str) -> bool:
    """Tell whether `text` belongs to the training half; all other strings are for evaluation."""
    return hashlib.sha256(text.encode()).digest()[0] & 1 == 0


def draw_word(rng: Random, split: Split) -> str:
    """Draw an `adjective-noun` key, uniform over all pairs of the split."""
    adjectives, nouns = word_list("adjectivelist.txt"), word_list("nounlist.txt")
    return _draw(lambda: f"{rng.choice(adjectives)}-{rng.choice(nouns)}", split)


def draw_uuid(rng: Random, split: Split) -> str:
    """Draw a version 4 UUID in its 36-character form."""
    return _draw(lambda: str(uuid.UUID(int=rng.getrandbits(128), version=4)), split)


def draw_number(rng: Random, split: Split, *, digits: int = 7) -> str:
    """Draw a number with exactly `digits` digits (7 in needles, 5 in variable tracking)."""
    low, high = 10 ** (digits - 1), 10**digits - 1
    return _draw(lambda: str(rng.randint(low, high)), split)


def draw_variable(rng: Random, split: Split, *, letters: int = 5) -> str:
    """Draw a variable name of upper-case letters (5 in the question, 3 in its example)."""
    return _draw(lambda: "".join(rng.choices(string.ascii_uppercase, k=letters)), split)


def draw_coded_word(rng: Random, split: Split, *, letters: int = 6) -> str:
    """Draw a word of lower-case letters."""
    return _draw(lambda: "".join(rng.choices(string.ascii_lowercase, k=letters)), split)


def _draw(make: Callable[[], str], split: Split) -> str:
    """Draw until the string falls into the split: two draws on average."""
    while True:
        text = make()
        if is_train_key(text) == (split == "train"):
            return text
