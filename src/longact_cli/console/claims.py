"""The checklist of claims for a script."""

from longact_cli.console.output import Output
from longact_cli.reporting.table import Table


def claim_lines(output: Output, table: Table) -> None:
    """Print one JSON line per claim and place, and one per command that settles open ones."""
    keys = [column.key for column in table.columns]
    for section in table.sections:
        for row in section.rows:
            entries = dict(zip(keys, row, strict=True))
            values = {key: entry.value for key, entry in entries.items()}
            interval = {"low": entries["difference"].low, "high": entries["difference"].high}
            output.data({"event": "claim", "family": section.title, **values, **interval})
    for line in table.missing:
        names, _, command = line.partition("; to settle: ")
        output.data({"event": "next", "claims": names.split(", "), "command": command})
