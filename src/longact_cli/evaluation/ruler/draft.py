"""A RULER question before its haystack has a size."""

from collections.abc import Callable
from typing import NamedTuple

from longact_cli.evaluation.ruler.frame import PromptFrame


class Prediction(NamedTuple):
    """The largest size that should fit, and its tokens, if the tokens of pieces add up."""

    units: int
    tokens: int


class Draft(NamedTuple):
    """A question whose haystack may still grow, one unit at a time.

    A unit is a line, a word or a document. `message(n)` is pure: the same number gives the same
    text. Exactly one of `unit` and `measure` is given.
    """

    minimum: int
    """Fewest units in which all needles find a place."""
    message: Callable[[int], str]
    """The user's message with this many units."""
    prefix: str
    """What the answer already starts with."""
    references: tuple[str, ...]
    unit: Callable[[int], str] | None = None
    """Text of one haystack line, without its newline; `message(n)` has `unit(0)..unit(n - 1)`."""
    measure: Callable[[PromptFrame, int], Prediction | None] | None = None
    """Returns the size for a budget in tokens; None where not even the minimum fits."""
