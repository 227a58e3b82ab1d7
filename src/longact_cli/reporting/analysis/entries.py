"""Numbers of an analysis as entries of a table, and rows put into groups."""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from longact_cli.reporting.table import Entry

KINDS = {"q": "query", "k": "key"}

Row = TypeVar("Row")
Key = TypeVar("Key")


def decimal(value: float, digits: int = 3) -> Entry:
    """Return a plain number with a fixed count of decimals; missing where it is undefined."""
    return Entry() if value != value else Entry(f"{value:.{digits}f}")


def share(value: float) -> Entry:
    """Return a share of 0..1 for a column of percents; missing where it is undefined."""
    return Entry() if value != value else Entry(value)


def mean(values: Iterable[float]) -> float:
    """Return the mean of the values that are defined; NaN where none is."""
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else float("nan")


def grouped(rows: Iterable[Row], key: Callable[[Row], Key]) -> Mapping[Key, list[Row]]:
    """Return the rows by key, in the order in which keys come up."""
    groups: dict[Key, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def heading(model: str, site: str, statistic: str) -> str:
    """Return what a section of one model, site and statistic is called."""
    return f"{model}, site {site}, saliency {statistic}"
