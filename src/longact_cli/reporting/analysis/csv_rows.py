"""Rows of named tuples as CSV: one header line, numbers with nine significant digits."""

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple


def to_csv(rows: Sequence[NamedTuple], columns: Sequence[str]) -> bytes:
    """Return the rows; an empty field is a number that is not defined.

    Args:
        rows: All of one type.
        columns: The type's fields, so that a file without rows has its header.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_text(value) for value in row] for row in rows)
    return stream.getvalue().encode("utf-8")


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else format(value, ".9g")
    return str(value)
