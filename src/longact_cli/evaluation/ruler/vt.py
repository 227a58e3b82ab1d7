"""Variable tracking: a chain of assignments in noise, behind one solved example.

Source: NVIDIA/RULER c3f5e3b, scripts/data/synthetic/variable_tracking.py with one chain. The
trailing blank of every copied assignment and the two blanks before the example's answer are
official. Differences: every sample has its own random stream; all names of a prompt are distinct,
none is `VAR`, and the example's value differs from the question's (left to chance upstream).
"""

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from longact_cli.evaluation.ruler.draft import Draft
from longact_cli.evaluation.ruler.templates import NOISE, VT_PREFIX, VT_TEMPLATE, VtTask
from longact_cli.evaluation.ruler.words import Split, draw_number, draw_variable

EXAMPLE_TOKENS = 500
"""Upper bound on the example without its answer, in tokens."""
_QUESTION_LETTERS, _EXAMPLE_LETTERS, _VALUE_DIGITS = 5, 3, 5


class Chain(NamedTuple):
    """Variables that all hold one value: the first is assigned it, each other copies the last."""

    names: tuple[str, ...]
    value: str

    def lines(self) -> list[str]:
        """Return the assignments in their order."""
        copies = zip(self.names[1:], self.names, strict=False)
        first = f"VAR {self.names[0]} = {self.value}"
        return [first, *(f"VAR {name} = VAR {source} " for name, source in copies)]

    def prefix(self) -> str:
        """Return what the answer starts with."""
        return VT_PREFIX.format(num_v=len(self.names), query=self.value)


class ExampleLayout(NamedTuple):
    """Size of the solved example: noise lines, and where the assignments go. Equal for all samples.

    Only names and value change from sample to sample, as in the official code.
    """

    units: int
    positions: tuple[int, ...]


def vt_draft(task: VtTask, rng: Random, *, split: Split, layout: ExampleLayout) -> Draft:
    """Draw one question and its example."""
    chain = draw_chain(task, rng, split=split, letters=_QUESTION_LETTERS)
    example = draw_chain(task, rng, split=split, letters=_EXAMPLE_LETTERS)
    while example.value == chain.value:
        example = draw_chain(task, rng, split=split, letters=_EXAMPLE_LETTERS)
    answer = " ".join(example.names)
    shown = f"{example_text(example, layout)} {answer}\n\n"
    position_seed = rng.getrandbits(64)

    def message(units: int) -> str:
        positions = draw_positions(len(chain.names), units, Random(position_seed))
        return shown + _question(chain, units, positions)

    return Draft(
        minimum=len(chain.names),
        unit=lambda _: NOISE,
        message=message,
        prefix=chain.prefix(),
        references=chain.names,
    )


def draw_chain(task: VtTask, rng: Random, *, split: Split, letters: int) -> Chain:
    """Draw the names and the value of one chain of `num_hops` copies."""
    names: list[str] = []
    while len(names) <= task.num_hops:
        name = draw_variable(rng, split, letters=letters)
        if name not in names and name != "VAR":
            names.append(name)
    return Chain(tuple(names), draw_number(rng, split, digits=_VALUE_DIGITS))


def draw_positions(assignments: int, units: int, rng: Random) -> tuple[int, ...]:
    """Draw before which noise lines the assignments stand, ascending."""
    return tuple(sorted(rng.sample(range(units), assignments)))


def example_layout(
    task: VtTask, rng: Random, *, split: Split, fits: Callable[[str], bool]
) -> ExampleLayout:
    """Size the example: the most noise lines for which `fits(text)` holds.

    Where even the fewest lines that hold the chain are too long, those are used: the example then
    exceeds its official size, but the whole prompt is still checked against its budget.
    """
    chain = draw_chain(task, rng, split=split, letters=_EXAMPLE_LETTERS)
    seed = rng.getrandbits(64)

    def layout(units: int) -> ExampleLayout:
        return ExampleLayout(units, draw_positions(len(chain.names), units, Random(seed)))

    units = len(chain.names)
    while fits(example_text(chain, layout(units + 1))):
        units += 1
    return layout(units)


def example_text(chain: Chain, layout: ExampleLayout) -> str:
    """Return the example's question and the start of its answer."""
    return _question(chain, layout.units, layout.positions) + chain.prefix()


def _question(chain: Chain, units: int, positions: tuple[int, ...]) -> str:
    lines = [NOISE] * units
    for offset, (position, line) in enumerate(zip(positions, chain.lines(), strict=True)):
        lines.insert(position + offset, line)
    return VT_TEMPLATE.format(context="\n".join(lines), query=chain.value)
