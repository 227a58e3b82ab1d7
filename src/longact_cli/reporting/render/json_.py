"""A table as JSON: everything the `Table` holds, for programs."""

import json
from dataclasses import asdict

from longact_cli.reporting.table import Table


def to_json(table: Table) -> str:
    """Return the table; scores and differences are fractions, missing values are null."""
    data = asdict(table) | {
        "columns": [column._asdict() for column in table.columns],
        "provenance": table.provenance._asdict(),
        "sections": [
            {
                "title": section.title,
                "rows": [
                    {
                        column.key: entry._asdict()
                        for entry, column in zip(row, table.columns, strict=True)
                    }
                    for row in section.rows
                ],
            }
            for section in table.sections
        ],
    }
    return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
