"""A table as JSON: everything the `Table` holds, for programs."""

import json
from dataclasses import asdict

from longact_cli.reporting.table import Provenance, Table


def to_json(table: Table) -> str:
    """Return the table; scores and differences are fractions, missing values are null."""
    data = asdict(table) | {
        "columns": [column._asdict() for column in table.columns],
        "provenance": _known(table.provenance),
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


def _known(provenance: Provenance) -> dict[str, object]:
    """Return the provenance; models only where the numbers come from models."""
    return {key: v for key, v in provenance._asdict().items() if key != "models" or v}
