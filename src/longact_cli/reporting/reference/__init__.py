"""Published values of the paper, each with its source; nothing here is computed or guessed."""

from functools import cache
from importlib.resources import files
from typing import Annotated

from pydantic import Field, TypeAdapter
from yaml import safe_load

from longact_cli.config.base import Fraction, Frozen

Percent = Annotated[str, Field(pattern=r"^\d{1,3}(\.\d+)?$")]


class PublishedValue(Frozen):
    """One score as the paper prints it.

    Attributes:
        row: Row of our tables it belongs to: `base`, `sft`, `dense` or a mask strategy.
        row_title: The paper's name of that row.
        column: `overall` or another column of the benchmark's table.
        sparsity: Fraction of query/key rows updated, where it applies.
        percent: The printed digits.
        source: Where the number was read.
    """

    id: str
    row: str
    row_title: str
    model: str
    benchmark: str
    column: str
    sparsity: Fraction | None = None
    percent: Percent
    source: str
    note: str = ""

    @property
    def score(self) -> float:
        """The value in 0..1."""
        return float(self.percent) / 100


class PublishedGain(Frozen):
    """A gain that the paper states without saying against which baseline."""

    id: str
    benchmark: str
    percent: Percent
    source: str
    note: str = ""


class Paper(Frozen):
    """The paper and what it publishes."""

    title: str
    arxiv: str
    url: str
    values: tuple[PublishedValue, ...]
    gains: tuple[PublishedGain, ...]


@cache
def paper() -> Paper:
    """Read the packaged file of published values."""
    text = (files(__name__) / "paper.yaml").read_text(encoding="utf-8")
    return TypeAdapter(Paper).validate_python(safe_load(text))


def published_value(*, model: str, benchmark: str, row: str, column: str) -> PublishedValue | None:
    """Return the paper's value for one place of a table, or None where none is public."""
    for value in paper().values:
        if (value.model, value.benchmark, value.row, value.column) == (
            model,
            benchmark,
            row,
            column,
        ):
            return value
    return None
