"""A table as JSON: everything the `Table` holds, for programs."""

import json
from typing import Any

from longact_cli.reporting.table import DECIMALS, Entry, Provenance, Table

_DEFAULTS = Entry()._asdict()


def to_json(table: Table) -> str:
    """Return the table; scores and differences are fractions, a missing value is null.

    An entry names what it has beside its value: interval, ranks, n, seeds, cells.
    """
    data = vars(table) | {
        "columns": [column._asdict() for column in table.columns],
        "provenance": _known(table.provenance),
        "sections": [
            {
                "title": section.title,
                "rows": [
                    {
                        column.key: _entry(entry)
                        for entry, column in zip(row, table.columns, strict=True)
                    }
                    for row in section.rows
                ],
            }
            for section in table.sections
        ],
    }
    return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def _entry(entry: Entry) -> dict[str, Any]:
    known = {key: value for key, value in entry._asdict().items() if value != _DEFAULTS[key]}
    return {"value": None} | {key: _rounded(value) for key, value in known.items()}


def _rounded(value: object) -> object:
    return round(value, DECIMALS) if isinstance(value, float) else value


def _known(provenance: Provenance) -> dict[str, object]:
    """Return the provenance; models only where the numbers come from models."""
    return {key: v for key, v in provenance._asdict().items() if key != "models" or v}
