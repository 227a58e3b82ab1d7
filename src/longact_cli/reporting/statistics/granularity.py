"""Can a printed percentage be a share of n questions? Whole numbers only, so nothing is rounded.

Source: the GRIM test, Brown and Heathers 2017, doi:10.1177/1948550616673876.
"""

from fractions import Fraction
from typing import NamedTuple

MOST_RUNS = 16


class Granularity(NamedTuple):
    """Whether a printed percentage fits, and the shares next to it.

    `below` and `above` are the nearest counts out of `total` at or below, and above, the printed
    value; `fitting_runs` lists how many runs of n questions could have such a mean.
    """

    printed: str
    n: int
    total: int
    possible: bool
    below: int
    above: int
    fitting_runs: tuple[int, ...]

    def sentence(self) -> str:
        """Return the finding for people."""
        if self.possible:
            return f"{self.printed} % can be a share of {self.n} questions."
        shares = " and ".join(
            f"{k}/{self.total} = {100 * k / self.total:.{_decimals(self.printed)}f} %"
            for k in dict.fromkeys((self.below, self.above))
        )
        runs = ", ".join(map(str, self.fitting_runs))
        mean = (
            f"the mean of {runs} runs could be (up to {MOST_RUNS} tried)"
            if runs
            else f"nor does the mean of up to {MOST_RUNS} runs give it"
        )
        return f"{self.printed} % is no share of {self.n} questions: nearest are {shares}; {mean}."


def check_granularity(printed: str, n: int, *, parts: int = 1) -> Granularity:
    """Ask whether `printed` percent can be k / (n * parts), rounded to its own digits.

    Args:
        printed: The percentage as printed, e.g. "36.73"; its digits say how it was rounded.
        n: Questions.
        parts: Into how many parts the score of one question divides (4 where a guess counts 1/4).
    """
    total = n * parts
    value = Fraction(printed) / 100
    below = min(total, int(value * total))
    return Granularity(
        printed=printed,
        n=n,
        total=total,
        possible=_fits(printed, total),
        below=below,
        above=min(total, below + 1),
        fitting_runs=tuple(k for k in range(1, MOST_RUNS + 1) if _fits(printed, k * total)),
    )


def _fits(printed: str, total: int) -> bool:
    """Return whether some k / total rounds to the printed value; a tie may round either way."""
    half = Fraction(1, 200 * 10 ** _decimals(printed))
    value = Fraction(printed) / 100
    lowest = max(0, -int(-(value - half) * total // 1))
    return Fraction(lowest, total) <= min(value + half, Fraction(1))


def _decimals(printed: str) -> int:
    return len(printed.partition(".")[2])
