"""A RULER question before its haystack has a size."""

from collections.abc import Callable
from typing import NamedTuple


class Draft(NamedTuple):
    """A question whose haystack may still grow, one unit (one line) at a time.

    `message(n)` and `unit(i)` are pure: the same number gives the same text, and the units of
    `message(n)` are `unit(0)` to `unit(n - 1)`.
    """

    minimum: int
    """Fewest units in which all needles find a place."""
    unit: Callable[[int], str]
    """Text of one haystack line, without its newline."""
    message: Callable[[int], str]
    """The user's message with this many units."""
    prefix: str
    """What the answer already starts with."""
    references: tuple[str, ...]
