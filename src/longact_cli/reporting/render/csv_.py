"""A table as CSV: raw numbers in full precision, for programs."""

import csv
import io
from collections.abc import Iterator

from longact_cli.reporting.table import DECIMALS, Column, Entry, Table


def to_csv(table: Table) -> str:
    """Return the rows below comment lines that start with `#` (provenance, notes, missing cells).

    Scores and differences are fractions, not percent; each has columns for its 95 % interval,
    its number of questions and of seeds. An empty field is a number that is missing or has no
    meaning in that row.
    """
    stream = io.StringIO()
    comments = (*table.provenance.lines(), *table.notes, *(f"missing: {m}" for m in table.missing))
    for line in comments:
        stream.write(f"# {' '.join(line.split())}\n")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["section", *(name for column in table.columns for name in _names(column))])
    for section in table.sections:
        for row in section.rows:
            pairs = zip(row, table.columns, strict=True)
            writer.writerow([section.title, *(v for e, c in pairs for v in _values(e, c))])
    return stream.getvalue()


def _names(column: Column) -> tuple[str, ...]:
    if column.kind in ("text", "count"):
        return (column.key,)
    if column.kind in ("number", "published"):
        return (column.key,)
    tails = ("", "_low", "_high", "_n", "_seeds")
    return tuple(f"{column.key}{tail}" for tail in tails)


def _values(entry: Entry, column: Column) -> Iterator[str]:
    if column.kind in ("text", "count"):
        yield "" if entry.value is None else str(entry.value)
        return
    if column.kind in ("number", "published"):
        yield _real(entry.value)
        return
    for value in (entry.value, entry.low, entry.high):
        yield _real(value)
    for count in (entry.n, entry.seeds):
        yield "" if count is None else str(count)


def _real(value: float | str | None) -> str:
    return repr(round(float(value), DECIMALS)) if isinstance(value, (int, float)) else ""
