"""Cells of a store and scores of an evaluation."""

import time
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from longact_cli.console.output import STATE_STYLES, Output, duration
from longact_cli.execution.overview import Row


def show_cells(output: Output, rows: Sequence[Row]) -> None:
    """Print the cells of a store."""
    table = Table()
    for name in ("digest", "cell", "state", "tries", "time", "error"):
        table.add_column(name, overflow="fold")
    for row in rows:
        status = row.status
        spent = (status.finished or time.time()) - status.started if status.started else None
        output.data({"digest": row.digest, "label": row.label, **vars(status)})
        table.add_row(
            row.digest[:12],
            row.label,
            Text(status.state, style=STATE_STYLES[status.state]),
            str(status.attempt),
            duration(spent) if spent is not None and status.state in ("done", "running") else "",
            status.error or "",
        )
    output.show(table)
